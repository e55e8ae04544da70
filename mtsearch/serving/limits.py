"""What every request must keep to, before it is looked at."""

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 2 << 20
"""Bytes; 1,000 pairs of the longest ids are 1 MiB."""

_DISCARDED = 64 << 20


class Bounded:
    """Answers a body above `MAX_BODY` with 413, and HEAD as GET (the server leaves the body out).

    Args:
        app: behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if int(length) > MAX_BODY:  # the server has refused what is no number
            await _discard(receive)
            await JSONResponse({"error": _too_large().detail}, status_code=413)(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, _counted(receive), send)


def _counted(receive: Receive) -> Receive:
    """The same messages, until they are too many: a body in chunks does not say its length."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY:
            await _discard(receive)
            raise _too_large()
        return message

    return counted


async def _discard(receive: Receive) -> None:
    """Let the client finish, within reason: one that is cut off while it sends never reads why."""
    discarded = 0
    while discarded < _DISCARDED:
        message = await receive()
        discarded += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return


def _too_large() -> HTTPException:
    return HTTPException(413, f"the body is larger than {MAX_BODY >> 20} MiB")

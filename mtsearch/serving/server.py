"""Run `mtsearch serve`: load the model, listen, and stop after the last request."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn

from mtsearch.host import bind, url_of
from mtsearch.serving.app import make_app
from mtsearch.serving.model import CARD_FILE, ServedModel, read_info

_HEADER_BYTES = 2 << 20  # so that a very long URL also reaches the routes, which answer in JSON
_LAST_REQUESTS_SECONDS = 5


def serve(folder: Path, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Answer requests until SIGINT or SIGTERM, then finish the requests that have begun.

    Args:
        folder: the model folder.
        host: address or name to listen on.
        port: port to listen on; 0: any free one.
        ready: called with the URL once requests are answered.

    Raises:
        ModelError: the folder cannot be used.
        MachineError: the address cannot be listened on.
    """
    read_info(folder)
    # A port that is in use is found before the model is loaded, which takes seconds.
    with bind(host, port) as listener, ThreadPoolExecutor(1, "model") as executor:
        model = ServedModel.load(folder)
        config = uvicorn.Config(
            make_app(model, _read_card(folder), executor),
            http="h11",
            h11_max_incomplete_event_size=_HEADER_BYTES,
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_LAST_REQUESTS_SECONDS,
        )
        # NOTE: after an orderly end uvicorn raises the signal again, which the command line turns into
        # KeyboardInterrupt; nothing is interrupted here.
        with contextlib.suppress(KeyboardInterrupt):
            _Server(config, lambda: ready(url_of(listener))).run([listener])


class _Server(uvicorn.Server):
    """A uvicorn server that calls `ready` once it answers, and logs no traceback for requests that it had to cancel."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then call `ready`; see uvicorn."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop without tracebacks of cancelled requests; see uvicorn."""
        logging.getLogger("uvicorn.error").addFilter(
            _is_not_cancellation
        )  # is never removed: asyncio cancels after this call
        await super().shutdown(sockets)


def _is_not_cancellation(record: logging.LogRecord) -> bool:
    """Return whether a log message is about anything but a cancelled request.

    NOTE: uvicorn cancels requests that are not done in time, and then logs the cancellation as an error.
    """
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _read_card(folder: Path) -> str | None:
    """Return the text of the model card; None if the folder has none."""
    try:
        return (folder / CARD_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None

"""`mtsearch serve` from the folder to the last request."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn

from mtsearch.machine import bind, url_of
from mtsearch.serving.app import make_app
from mtsearch.serving.folder import CARD, read_facts
from mtsearch.serving.model import ServedModel

_HEADER_BYTES = 2 << 20  # so that also a very long URL reaches the routes, which say in JSON what is wrong with it
_LAST_REQUESTS_SECONDS = 5


def serve(folder: Path, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Answer requests until SIGINT or SIGTERM, then finish those that have begun.

    Args:
        folder: of the model.
        host: address or name to listen on.
        port: 0: any that is free.
        ready: called with the URL once requests are answered.

    Raises:
        ModelError: the folder cannot be used.
        MachineError: the address cannot be listened on.
    """
    read_facts(folder)
    # The address is taken before the seconds that the model takes.
    with bind(host, port) as listener, ThreadPoolExecutor(1, "model") as executor:
        model = ServedModel.load(folder)
        config = uvicorn.Config(
            make_app(model, _card(folder), executor),
            http="h11",
            h11_max_incomplete_event_size=_HEADER_BYTES,
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_LAST_REQUESTS_SECONDS,
        )
        # NOTE: after its own orderly end uvicorn raises the signal again, which the command line turns into
        # KeyboardInterrupt; that is no interruption here.
        with contextlib.suppress(KeyboardInterrupt):
            _Server(config, lambda: ready(url_of(listener))).run([listener])


class _Server(uvicorn.Server):
    """Says when it is ready, and at its end how many requests it broke off, but not where each of them was."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)  # stays: asyncio cancels after this
        await super().shutdown(sockets)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Whether a message is about anything else than a request that was broken off.

    NOTE: uvicorn cancels what is not done in time, and then takes the cancellation for an error of the application.
    """
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _card(folder: Path) -> str | None:
    try:
        return (folder / CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None

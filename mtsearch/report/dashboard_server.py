"""optuna-dashboard on a study's storage, served to browsers, its note and figures kept up to date beside it."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from optuna_dashboard import wsgi

from mtsearch.errors import MtsearchError
from mtsearch.machine import bind, url_of
from mtsearch.report.dashboard import publication
from mtsearch.search.publishing import Publisher, Shown
from mtsearch.search.storage import checkpoint, reading

REFRESH_SECONDS = 10.0
"""Between two looks at whether trials have ended."""

_TRIES = 50
_GOODBYE_SECONDS = 3.0

_logger = logging.getLogger("mtsearch")


def serve(
    url: str,
    study: str | None,
    host: str,
    port: int,
    ready: Callable[[str, str], None],
    storage: str | None = None,
) -> None:
    """Answer browsers until SIGINT or SIGTERM.

    Its note and figures are all that it writes: what a page would change is refused, so that none in a browser can
    delete a study.

    Args:
        url: of the storage, from `resolve_url`.
        study: whose note and figures are published; None: the one written last.
        host: address or name to listen on.
        port: where it is taken, the next free one; 0: any that is free.
        ready: called with the study's name and the address of its page once requests are answered.
        storage: for the commands in the note, as people may see it.

    Raises:
        StorageError: the storage or the study cannot be read.
        MachineError: the address cannot be listened on.
    """
    with reading(url) as reader, suppress(KeyboardInterrupt):
        shown = Shown(reader, study)
        with _Server(bind(host, port, _TRIES)) as server:
            if port not in (0, server.server_port):
                _logger.warning("port %d is taken; listening on %d", port, server.server_port)
            lock = threading.Lock()
            server.set_app(_Looking(wsgi(shown.storage), lock))
            ended = threading.Event()
            publisher = Publisher(url, shown.storage, shown.name, lambda record: publication(record, storage), lock)
            thread = threading.Thread(target=_keep_publishing, args=(publisher, ended), daemon=True)
            thread.start()
            try:
                ready(shown.name, f"{url_of(server.socket)}/dashboard/studies/{shown.number}")
                server.serve_forever(poll_interval=0.2)
            finally:
                ended.set()
                thread.join(_GOODBYE_SECONDS)  # a write that waits for others is given up
    checkpoint(reader)  # while it was open, what was published could not go into the database file


def _keep_publishing(publisher: Publisher, ended: threading.Event) -> None:
    """Until the end; what fails is said once and tried again, since a storage may be locked or away for a while."""
    said = ""
    while True:
        try:
            publisher.refresh()
            said = ""
        except Exception as error:  # whatever it is, the dashboard goes on
            problem = f"{error}" if isinstance(error, MtsearchError) else f"{type(error).__name__}: {error}"
            if problem != said:
                _logger.warning("note and figures are not up to date: %s", problem)
            said = problem
        if ended.wait(REFRESH_SECONDS):
            return


class _Looking:
    """The dashboard's application for looking: requests that would change something are refused.

    Args:
        app: of optuna-dashboard.
        lock: held while what it reads is being written.
    """

    def __init__(self, app: Any, lock: threading.Lock) -> None:
        self._app, self._lock = app, lock

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """See PEP 3333."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("403 Forbidden", [("Content-Type", "application/json")])
            return [b'{"reason": "mtsearch dashboard only shows; nothing was changed"}']
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")  # optuna-dashboard takes it for granted
        if not environ["PATH_INFO"].startswith("/api/studies/"):
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        with self._lock:
            return list(self._app(environ, start_response))


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener.getsockname(), _Quiet, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        # Without WSGIServer's look-up of the host's name, which may take seconds.
        self.server_name, self.server_port = listener.getsockname()[:2]
        self.setup_environ()
        self.server_activate()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is nobody's error."""


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the name that http.server gives it
        """Says nothing."""

"""Read-only optuna-dashboard of a study's storage, with a note and figures of mtsearch that are kept up to date.

Each write is one short transaction. Only what has changed is written, so that workers hardly notice.
"""

from __future__ import annotations

import logging
import math
import socket
import string
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import plotly.graph_objects as go
from optuna_dashboard import get_note, save_note, save_plotly_graph_object, wsgi

from mtsearch.errors import MtsearchError
from mtsearch.host import bind, url_of
from mtsearch.report.front_plot import front_figure
from mtsearch.report.plot_data import by_end, improvements
from mtsearch.report.plot_style import pairs
from mtsearch.report.plots import curve_figure, hypervolume_figure
from mtsearch.report.tables import best_trials, verdict
from mtsearch.search.results import StudyResults, results_of
from mtsearch.search.storage import add_cache, checkpoint, close_storage, open_writer, reading_storage, storage_errors
from mtsearch.search.study import count_finished, find_study, load_existing
from mtsearch.text import aims, box, count, front_title, number, plain, shell_command, shorten

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

    from mtsearch.search.pareto import FrontRow

MOST_TRIALS = 200
"""Number of dominated trials in all panels of the front's figure, the latest ones; every 2 KB take a transaction."""

MOST_EPOCHS = 1000
"""Number of epochs of all curves in a figure together."""

_PUNCTUATION = str.maketrans({char: f"\\{char}" for char in string.punctuation})


def dashboard_content(results: StudyResults, storage: str | None = None) -> DashboardContent:
    """Return the note and the figures that the dashboard shows of a study.

    Args:
        results: the study's results.
        storage: name of the storage for the commands in the note, with its secrets hidden; None: the default one.
    """
    drawn: dict[str, tuple[str, go.Figure | None]] = {
        "front-with-baselines": (
            f"{front_title(results.objectives)} and baselines",
            front_figure(_reduced(results), most=MOST_TRIALS),
        ),
    }
    if len(results.objectives) > 1:  # with one objective the first figure shows its progress
        drawn["hypervolume"] = ("Hypervolume over trials", hypervolume_figure(results))
    for index, metric in enumerate(results.objectives):
        title = f"Learning curves: {metric.label}"
        drawn[f"curves-{metric.key}"] = (title, curve_figure(results, index, MOST_EPOCHS))
    figures = {name: _framed(figure, title) for name, (title, figure) in drawn.items() if figure}
    return DashboardContent(dashboard_note(results, storage), figures)


def dashboard_note(results: StudyResults, storage: str | None = None) -> str:
    """Return the note on a study as Markdown: aims, best trials, baselines, next commands; names are escaped."""
    lines = [
        f"# {_escaped(results.name)}",
        f"Searches for {_escaped(aims(results.objectives))}: {count(results.counting, 'trial')} so far.",
        _escaped(verdict(results)),
        f"Hypervolume {number(results.hypervolume)} of {box(results.objectives)}.",
    ]
    parts = ["\n\n".join(lines), _best_points(results), _baselines(results), _next_commands(results, storage)]
    return "\n\n".join(part for part in parts if part)


def _best_points(results: StudyResults) -> str:
    """Return the table of the best trials and the knee as Markdown; empty without a front."""
    if not results.front:
        return ""
    named = [(f"best {metric.label}", row)
             for metric, row in zip(results.objectives, best_trials(results), strict=True)]  # fmt: skip
    knee = [("knee", results.knee)] if results.knee and len(results.objectives) > 1 else []
    points = [*knee, *named]
    heads = ["", "trial", *(metric.axis for metric in results.objectives), "parameters"]
    title = "Best points" if len(results.objectives) > 1 else "Best trial"
    return _markdown_table(title, heads, [_point(what, row) for what, row in points])


def _point(what: str, row: FrontRow) -> list[str]:
    params = ", ".join(f"{plain(name)} {number(value)}" for name, value in row.params.items())
    return [what, str(row.trial), *map(number, row.values), shorten(params, 400)]


def _baselines(results: StudyResults) -> str:
    """Return the table of the baselines as Markdown; empty without baselines."""
    rows = [[name, *map(_maybe_number, results.baseline_values(name))] for name in results.baselines]
    return _markdown_table("Baselines", ["", *(metric.axis for metric in results.objectives)], rows) if rows else ""


def _maybe_number(value: float) -> str:
    return "" if math.isnan(value) else number(value)


def _next_commands(results: StudyResults, storage: str | None) -> str:
    """Return the commands that a user may type next, as Markdown."""
    pick = "knee" if len(results.objectives) > 1 else results.objectives[0].key
    commands = [
        shell_command("front", results.name, storage),
        shell_command("plot", results.name, storage),
        shell_command("export", results.name, storage, "--pick", pick, "-o", "best.toml"),
    ]
    # The block is fenced with tildes, since a name may hold backticks. No command begins with a tilde.
    return "\n".join(["## Next", "", "~~~~", *map(plain, commands), "~~~~"])


def _markdown_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["-"] * len(heads), *rows]
    cells = [[cell if index == 1 else _escaped(cell) for cell in line] for index, line in enumerate(lines)]
    return "\n".join([f"## {title}", "", *(f"| {' | '.join(line)} |" for line in cells)])


def _escaped(text: str) -> str:
    """Return plain text as one line of Markdown, with a backslash before every punctuation mark."""
    return plain(text).translate(_PUNCTUATION)


def _reduced(results: StudyResults) -> StudyResults:
    """Return results with only the front and the latest other trials, and without most values of their labels."""
    panels = max(1, len(pairs(len(results.objectives))))
    front = {row.trial for row in results.front}
    if len(results.objectives) == 1:
        # The picture places each trial by the number of trials before it, so that none may be left out.
        front |= {row.trial for _, row in improvements(by_end(results), results.signs[0])}
        kept = {row.trial for row in results.rows}
    else:
        others = [row.trial for row in results.rows if row.trial not in front]
        kept = front.union(others[-(MOST_TRIALS // panels) :])
    # Each panel repeats the labels, so that with many panels they are left out.
    labelled = front if panels == 1 or panels * len(front) <= MOST_TRIALS else set()
    rows = [
        replace(row, metrics={}, params=row.params if row.trial in labelled else {})
        for row in results.rows
        if row.trial in kept
    ]
    return replace(results, rows=tuple(rows))


def _framed(figure: go.Figure, title: str) -> go.Figure:
    """Return a figure with a title and a height, which the dashboard does not add."""
    heading = {"text": title, "x": 0.01, "xanchor": "left", "yref": "container", "y": 0.98, "yanchor": "top"}
    return figure.update_layout(height=figure.layout.height or 500, title=heading, margin_t=84)


REFRESH_SECONDS = 10.0
"""Seconds between two checks for trials that have ended."""

_TRIES = 50
_GOODBYE_SECONDS = 3.0

_logger = logging.getLogger("mtsearch")


def serve_dashboard(
    url: str,
    study: str | None,
    host: str,
    port: int,
    ready: Callable[[str, str], None],
    storage: str | None = None,
) -> None:
    """Serve optuna-dashboard, and keep the note and the figures of a study up to date, until SIGINT or SIGTERM.

    Only the note and the figures are written. Changes from a page are refused, so that nobody can delete a study in a
    browser.

    Args:
        url: the storage's URL, from `resolve_url`.
        study: name of the study that gets the note and the figures; None: the study written last.
        host: address or host name to listen on.
        port: TCP port; if it is in use, the next free one is taken. 0 takes any free port.
        ready: called with the study's name and the address of its page once requests are answered.
        storage: name of the storage for the commands in the note, with its secrets hidden.

    Raises:
        StorageError: the storage or the study cannot be read.
        MachineError: the server cannot listen on the address.
    """
    with reading_storage(url) as reader, suppress(KeyboardInterrupt):
        shown = StudyAddress(reader, study)
        with _Server(bind(host, port, _TRIES)) as server:
            if port not in (0, server.server_port):
                _logger.warning("port %d is in use; listening on port %d instead", port, server.server_port)
            lock = threading.Lock()
            server.set_app(_ReadOnlyApp(wsgi(shown.storage), lock))
            ended = threading.Event()
            publisher = DashboardSync(
                url, shown.storage, shown.name, lambda results: dashboard_content(results, storage), lock
            )
            thread = threading.Thread(target=_keep_in_sync, args=(publisher, ended), daemon=True)
            thread.start()
            try:
                ready(shown.name, f"{url_of(server.socket)}/dashboard/studies/{shown.number}")
                server.serve_forever(poll_interval=0.2)
            finally:
                ended.set()
                thread.join(_GOODBYE_SECONDS)  # a write that still waits for other writers is abandoned
    checkpoint(reader)  # while the reader was open, the written note and figures stayed in SQLite's log file


def _keep_in_sync(publisher: DashboardSync, ended: threading.Event) -> None:
    """Refresh the note and the figures again and again until `ended` is set; log each new problem once."""
    said = ""
    while True:
        try:
            publisher.refresh()
            said = ""
        except Exception as error:  # the dashboard goes on after any error, since a storage may be locked for a while
            problem = f"{error}" if isinstance(error, MtsearchError) else f"{type(error).__name__}: {error}"
            if problem != said:
                _logger.warning("the note and the figures are not up to date, will try again: %s", problem)
            said = problem
        if ended.wait(REFRESH_SECONDS):
            return


class _ReadOnlyApp:
    """WSGI application that shows the dashboard and refuses every request that would change something.

    Args:
        app: the WSGI application of optuna-dashboard.
        lock: held while a study is read or its note and figures are written.
    """

    def __init__(self, app: Any, lock: threading.Lock) -> None:
        self._app, self._lock = app, lock

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request; see PEP 3333."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("403 Forbidden", [("Content-Type", "application/json")])
            return [b'{"reason": "mtsearch dashboard is read-only; nothing was changed"}']
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")  # optuna-dashboard fails without this header
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
        # WSGIServer would look up the host's name here, which may take seconds.
        self.server_name, self.server_port = listener.getsockname()[:2]
        self.setup_environ()
        self.server_activate()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of a connection, such as a browser that has closed it."""


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the name that http.server gives it
        """Log nothing."""


MARK = "*Written by mtsearch; what stands below this line is written again.*"
"""First line of the note of mtsearch; text that a user wrote above this line is kept."""


@dataclass(frozen=True)
class DashboardContent:
    """Note and figures of a study for the dashboard.

    Attributes:
        note: the note in Markdown.
        figures: Plotly figures by the identifier that the dashboard shows as title: letters, digits, `-`, `_`, `.`.
    """

    note: str
    figures: Mapping[str, Any] = field(default_factory=dict)


class StudyAddress:
    """Name and number of a study in the dashboard's addresses, with the storage that the dashboard reads.

    Args:
        reader: the open storage.
        name: the study's name; None: the study written last.

    Attributes:
        storage: the reader with Optuna's cache of finished trials; reading 1,000 trials takes a second.
        name: the study's name.
        number: the study's number in the dashboard's addresses.

    Raises:
        StudyNotFound: the storage has no such study made by mtsearch.
    """

    def __init__(self, reader: BaseStorage, name: str | None) -> None:
        self.storage = add_cache(reader)
        self.name = find_study(self.storage, name).study_name
        self.number = self.storage.get_study_id_from_name(self.name)


class DashboardSync:
    """Writer of the note and the figures of a study, for use each time trials have ended.

    Args:
        url: the storage's URL.
        reader: the same storage, open for reading, with a cache of finished trials.
        name: the study's name.
        make: function that makes the note and the figures from the study's results.
        lock: held while writing, so that a reader that holds the lock never gets half a figure.
    """

    def __init__(
        self,
        url: str,
        reader: BaseStorage,
        name: str,
        make: Callable[[StudyResults], DashboardContent],
        lock: AbstractContextManager[Any],
    ) -> None:
        self._url, self._reader, self._name, self._make, self._lock = url, reader, name, make, lock
        self._finished = -1
        self._written: dict[str, str] = {}

    def refresh(self) -> bool:
        """Write what has changed since the last call, and return whether anything was written.

        Raises:
            StorageError: the study is gone, or the storage cannot be read or written.
        """
        with storage_errors(self._url):
            study = load_existing(self._reader, self._name)
            finished = count_finished(study)
            if finished == self._finished:
                return False
            publication = self._make(results_of(study))
        changed = self._changed(publication)
        if changed:
            with self._lock, _short_writing(self._url) as writer:
                self._write(load_existing(writer, self._name), publication, changed)
        self._finished = finished
        return bool(changed)

    def _changed(self, publication: DashboardContent) -> dict[str, str]:
        """Return the note (key "") and the figures whose text differs from the text that was written last."""
        shown = {"": publication.note} | {name: figure.to_json() for name, figure in publication.figures.items()}
        return {name: text for name, text in shown.items() if self._written.get(name) != text}

    def _write(self, study: optuna.Study, publication: DashboardContent, changed: Mapping[str, str]) -> None:
        for name, text in changed.items():
            if name:
                save_plotly_graph_object(study, publication.figures[name], graph_object_id=name)
            else:
                _save_note(study, text)
            self._written[name] = text


def _save_note(study: optuna.Study, text: str) -> None:
    """Write our note below the mark, and keep the user's own text above it."""
    stored = get_note(study)
    own, _, _ = stored.partition(MARK)
    note = f"{own}{MARK}\n\n{text}"
    if note != stored:
        save_note(study, note)


@contextmanager
def _short_writing(url: str) -> Iterator[BaseStorage]:
    """Open the storage for one short write.

    NOTE: without a checkpoint, which can hold SQLite's write lock for as long as somebody reads.
    """
    with storage_errors(url):
        writer = open_writer(url)
        try:
            yield writer
        finally:
            close_storage(writer)

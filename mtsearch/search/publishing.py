"""What optuna-dashboard shows of a study beside its own plots: a note and figures, through its public interface.

Each write is one short transaction. Only what has changed is written, so that workers hardly notice.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from optuna_dashboard import get_note, save_note, save_plotly_graph_object

from mtsearch.errors import StudyNotFound
from mtsearch.search import record
from mtsearch.search.storage import close, open_writer, storage_errors
from mtsearch.search.study import find

MARK = "*Written by mtsearch; what stands below this line is written again.*"
"""First line of what is ours; a user's own text above it is kept."""

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Publication:
    """What is published of a study.

    Attributes:
        note: Markdown.
        figures: Plotly's, by the identifier that the dashboard shows as title: letters, digits, `-`, `_`, `.`.
    """

    note: str
    figures: Mapping[str, Any] = field(default_factory=dict)


class Shown:
    """A study as the dashboard addresses it.

    Args:
        reader: of the storage.
        name: of the study; None: the one written last.

    Attributes:
        storage: the reader behind Optuna's cache of finished trials; 1,000 of them take a second to read.
        name: of the study.
        number: of it in the dashboard's addresses.

    Raises:
        StudyNotFound: there is none that mtsearch made.
    """

    def __init__(self, reader: BaseStorage, name: str | None) -> None:
        self.storage = optuna.storages.get_storage(reader)
        self.name = find(self.storage, name).study_name
        self.number = self.storage.get_study_id_from_name(self.name)


class Publisher:
    """Publishes a study again whenever trials of it have ended.

    Args:
        url: of the storage.
        reader: the same storage, to look at; one that caches finished trials.
        name: of the study.
        make: from the study as it stands to what is published.
        lock: held while writing, so that whoever holds it reads no half of a figure.
    """

    def __init__(
        self,
        url: str,
        reader: BaseStorage,
        name: str,
        make: Callable[[record.StudyRecord], Publication],
        lock: AbstractContextManager[Any],
    ) -> None:
        self._url, self._reader, self._name, self._make, self._lock = url, reader, name, make, lock
        self._finished = -1
        self._written: dict[str, str] = {}

    def refresh(self) -> bool:
        """Publish what has changed since the last time; whether anything had.

        Raises:
            StorageError: the study is gone, or the storage cannot be read or written.
        """
        with storage_errors(self._url):
            study = self._study()
            finished = len(study.get_trials(deepcopy=False, states=_FINISHED))
            if finished == self._finished:
                return False
            publication = self._make(record.of(study))
        changed = self._changed(publication)
        if changed:
            with self._lock, _short_writing(self._url) as writer:
                self._write(optuna.load_study(study_name=self._name, storage=writer), publication, changed)
        self._finished = finished
        return bool(changed)

    def _study(self) -> optuna.Study:
        try:
            return optuna.load_study(study_name=self._name, storage=self._reader)
        except KeyError:
            raise StudyNotFound(f"study {self._name!r} is no longer in the storage") from None

    def _changed(self, publication: Publication) -> dict[str, str]:
        shown = {"": publication.note} | {name: figure.to_json() for name, figure in publication.figures.items()}
        return {name: text for name, text in shown.items() if self._written.get(name) != text}

    def _write(self, study: optuna.Study, publication: Publication, changed: Mapping[str, str]) -> None:
        for name, text in changed.items():
            if name:
                save_plotly_graph_object(study, publication.figures[name], graph_object_id=name)
            else:
                _save_note(study, text)
            self._written[name] = text


def _save_note(study: optuna.Study, text: str) -> None:
    stored = get_note(study)
    own, _, _ = stored.partition(MARK)
    note = f"{own}{MARK}\n\n{text}"
    if note != stored:
        save_note(study, note)


@contextmanager
def _short_writing(url: str) -> Iterator[BaseStorage]:
    """NOTE: without a checkpoint, which can hold SQLite's write lock for as long as somebody reads."""
    with storage_errors(url):
        writer = open_writer(url)
        try:
            yield writer
        finally:
            close(writer)

"""Signs of life on every storage: a running trial's process counts on, and others watch whether the count moves.

The watcher measures how long a count stands still, on its own clock: no two machines' clocks are ever compared.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from mtsearch.machine import is_gone
from mtsearch.search import attributes
from mtsearch.search.outages import storage_exceptions
from mtsearch.search.retries import give_up

BEAT_SECONDS = 15.0
"""Between two counts of a running trial."""

GRACE_SECONDS = 120.0
"""How long a count may stand still, or a worker with a ticket run no trial: eight beats, or the longest outage of a
storage that is waited for, twice.
"""

LOOK_SECONDS = 5.0
"""Between two looks of a watcher."""

_SILENT = "no sign of life"


class Heart:
    """Counts on in a trial's attribute `mtsearch:alive` while its context lasts, in a thread of its own.

    NOTE: an epoch may take longer than the grace, so that a count after each would not do.

    Args:
        trial: that this process runs.

    Attributes:
        taken: whether somebody has given the trial up.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="mtsearch heart", daemon=True)
        self.taken = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        count = 0
        while not self._over.wait(BEAT_SECONDS):
            count += 1
            try:
                # NOTE: the storage's method: Trial's own would change what the other thread may be copying.
                self._trial.storage.set_trial_user_attr(self._trial._trial_id, attributes.ALIVE, count)
            except (UpdateFinishedTrialError, KeyError):  # the study itself may have been deleted
                self.taken = True
                return
            except storage_exceptions():
                pass  # the next beat may come through, and the other thread says what is wrong


class Watch:
    """Gives up the running trials whose process is gone from this machine, or that show no sign of life for too long.

    Only time during which it looked is held against a trial: neither the watcher's own sleep (Ctrl-Z, a laptop's lid)
    nor an outage of the storage makes others look dead.

    Args:
        study: whose trials.
        grace: seconds; by default `GRACE_SECONDS`.

    Attributes:
        overdue: the workers that, by this look, were to run a trial and have been seen with none for the grace.
    """

    def __init__(self, study: optuna.Study, grace: float | None = None) -> None:
        self._study = study
        self._grace = GRACE_SECONDS if grace is None else grace
        self._seen: dict[int, tuple[object, float]] = {}
        self._waited: dict[object, float] = {}
        self._looked = time.monotonic()
        self.overdue: Sequence[Mapping[str, Any]] = ()

    def look(self, busy: Mapping[Any, Mapping[str, Any]] | None = None) -> Mapping[int, Mapping[str, Any]]:
        """Look where the last look is a while ago.

        Args:
            busy: workers that are to run a trial, each by a key of that trial's own.

        Returns:
            The trials given up, here or by another watcher that has seen them as silent, each with its worker.
        """
        self.overdue = ()
        now = time.monotonic()
        if now - self._looked < min(LOOK_SECONDS, self._grace / 4):
            return {}
        trials = self._study.get_trials(deepcopy=False)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        watched = min(now - self._looked, self._grace / 4)
        self._looked = now
        silent = [number for number, (_, silence) in self._seen.items() if silence >= self._grace / 2]
        given_up = {
            number: trials[number].user_attrs.get(attributes.WORKER, {})
            for number in silent
            if _SILENT in attributes.reason_of(trials[number]).get("text", "")
        }
        self._seen = {trial.number: self._silence(trial, watched) for trial in running}
        at_work = [_process(trial.user_attrs.get(attributes.WORKER, {})) for trial in running]
        waiting = {key: worker for key, worker in (busy or {}).items() if _process(worker) not in at_work}
        self._waited = {key: self._waited[key] + watched if key in self._waited else 0.0 for key in waiting}
        self.overdue = [worker for key, worker in waiting.items() if self._waited[key] >= self._grace]
        for trial in running:
            worker = trial.user_attrs.get(attributes.WORKER, {})
            text = self._why(worker, self._seen[trial.number][1])
            if text and give_up(self._study, trial.number, "died", text):
                given_up[trial.number] = worker
        return given_up

    def _silence(self, trial: FrozenTrial, watched: float) -> tuple[object, float]:
        """The trial's count and for how many seconds it has stood still."""
        count = (trial.user_attrs.get(attributes.WORKER), trial.user_attrs.get(attributes.ALIVE))
        before, seconds = self._seen.get(trial.number, (None, 0.0))
        return (count, seconds + watched) if count == before else (count, 0.0)

    def _why(self, worker: Mapping[str, Any], silence: float) -> str:
        """Why a trial is given up; empty where it is not."""
        if worker and is_gone(worker):
            return "its worker died"
        return f"{_SILENT} for {self._grace:g} s" if silence >= self._grace else ""


def _process(worker: Mapping[str, Any]) -> Mapping[str, Any]:
    """A worker of one's own by all but the host: a laptop's name changes with the network."""
    return {key: value for key, value in worker.items() if key != "host"}


@contextmanager
def watching(study: optuna.Study) -> Iterator[None]:
    """Within it, a thread watches, for a process that is busy with a trial of its own."""
    watch, over = Watch(study), threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            with suppress(KeyError, *storage_exceptions()):  # KeyError: the study was deleted
                watch.look()

    thread = threading.Thread(target=look, name="mtsearch watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

"""Ownership of running trials: which process runs a trial, whether it still lives, and retries of lost trials.

A process stores itself as the owner of its trial (`set_owner`) and increases a count in it (`Heartbeat`). Every run
watches the others (`OwnershipWatch`): a trial whose owner is gone, or whose count stands still for too long, fails and
is queued again (`fail_trial`). The watcher measures this time on its own clock: clocks of two machines are never
compared.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from mtsearch.host import identity, is_gone
from mtsearch.search import attributes
from mtsearch.search.storage.retry import storage_exceptions
from mtsearch.signals import defer_signals

BEAT_SECONDS = 15.0
"""Time between two beats of a running trial."""

GRACE_SECONDS = 120.0
"""How long a trial may be without a beat, or a busy worker without a trial, in seconds.

This is eight beats, or twice the longest outage of a storage that an operation waits for.
"""

LOOK_SECONDS = 5.0
"""Time between two checks of a watcher."""

_SILENT = "no sign of life"


class Heartbeat:
    """A thread that increases the count in a trial's attribute `mtsearch:alive` within its context.

    NOTE: an epoch may take longer than the grace, so that a count after each epoch would not do.

    Args:
        trial: that this process runs.

    Attributes:
        lost: True once another process has ended the trial.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="mtsearch heartbeat", daemon=True)
        self.lost = False

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
                self.lost = True
                return
            except storage_exceptions():
                pass  # the next beat may succeed, and the thread that trains reports the error


class OwnershipWatch:
    """A watcher that fails the running trials whose process has ended or whose heartbeat stands still for too long.

    Only time in which the watcher itself was awake counts: neither its own sleep (Ctrl-Z, a laptop's lid) nor an outage
    of the storage makes the trials of others look dead.

    Args:
        study: whose trials.
        grace: seconds without a beat; by default `GRACE_SECONDS`.

    Attributes:
        stuck: the busy workers that, at the latest check, have run no trial for the grace.
    """

    def __init__(self, study: optuna.Study, grace: float | None = None) -> None:
        self._study = study
        self._grace = GRACE_SECONDS if grace is None else grace
        self._seen: dict[int, tuple[object, float]] = {}
        self._waited: dict[object, float] = {}
        self._checked = time.monotonic()
        self.stuck: Sequence[Mapping[str, Any]] = ()

    def check(self, busy: Mapping[Any, Mapping[str, Any]] | None = None) -> Mapping[int, Mapping[str, Any]]:
        """Check all running trials and fail the lost ones; do nothing if the last check was a moment ago.

        Args:
            busy: workers of this run that should run a trial now, by a key that is different for each of their trials.

        Returns:
            The owners of the lost trials by trial number: trials that failed at this check, and those that this watcher
            saw without a beat until another watcher failed them.
        """
        self.stuck = ()
        now = time.monotonic()
        if now - self._checked < min(LOOK_SECONDS, self._grace / 4):
            return {}
        trials = self._study.get_trials(deepcopy=False)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        # A longer time since the last check means that this process slept: that time is not counted.
        watched = min(now - self._checked, self._grace / 4)
        self._checked = now

        # Trials that were silent here and that another watcher has failed in the meantime.
        silent = [number for number, (_, silence) in self._seen.items() if silence >= self._grace / 2]
        lost = {
            number: trials[number].user_attrs.get(attributes.WORKER, {})
            for number in silent
            if _SILENT in attributes.reason_of(trials[number]).get("text", "")
        }
        self._seen = {trial.number: self._measure_silence(trial, watched) for trial in running}

        # Busy workers of this run that own no running trial.
        owners = [_without_host(trial.user_attrs.get(attributes.WORKER, {})) for trial in running]
        waiting = {key: worker for key, worker in (busy or {}).items() if _without_host(worker) not in owners}
        self._waited = {key: self._waited[key] + watched if key in self._waited else 0.0 for key in waiting}
        self.stuck = [worker for key, worker in waiting.items() if self._waited[key] >= self._grace]

        # Fail the trials whose process is gone or silent for too long.
        for trial in running:
            worker = trial.user_attrs.get(attributes.WORKER, {})
            text = self._describe_loss(worker, self._seen[trial.number][1])
            if text and fail_trial(self._study, trial.number, "died", text):
                lost[trial.number] = worker
        return lost

    def _measure_silence(self, trial: FrozenTrial, watched: float) -> tuple[object, float]:
        """Return the trial's owner and count, and for how many watched seconds neither has changed."""
        count = (trial.user_attrs.get(attributes.WORKER), trial.user_attrs.get(attributes.ALIVE))
        before, seconds = self._seen.get(trial.number, (None, 0.0))
        return (count, seconds + watched) if count == before else (count, 0.0)

    def _describe_loss(self, worker: Mapping[str, Any], silence: float) -> str:
        """Return the reason why a trial is lost; empty if it is not."""
        if worker and is_gone(worker):
            return "its worker died"
        return f"{_SILENT} for {self._grace:g} s" if silence >= self._grace else ""


def _without_host(worker: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the identity of a worker without its host, since a laptop's name changes with the network."""
    return {key: value for key, value in worker.items() if key != "host"}


@contextmanager
def watch_ownership(study: optuna.Study) -> Iterator[None]:
    """Watch the trials of other processes in a thread within the context, while this process runs trials itself."""
    watch, over = OwnershipWatch(study), threading.Event()

    def check_often() -> None:
        while not over.wait(LOOK_SECONDS):
            with suppress(KeyError, *storage_exceptions()):  # KeyError: the study was deleted
                watch.check()

    thread = threading.Thread(target=check_often, name="mtsearch watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


MAX_ATTEMPTS = 3
_OWNER_SECONDS = 3.0  # a living process stores itself as the owner of a new trial within milliseconds
_BROKEN_OFF = ("died", "error")
_RETRIED = (*_BROKEN_OFF, "interrupted")


def fail_trial(study: optuna.Study, number: int, kind: attributes.ReasonKind, text: str) -> bool:
    """End a running trial as failed and queue its parameters again; do nothing to a trial that has ended.

    A configuration that has ended its run or its worker `MAX_ATTEMPTS` times is not tried again: it fails for a reason
    of the model, and uses up budget.

    Args:
        study: of the trial.
        number: of the trial.
        kind: of the reason, see `attributes.reason`.
        text: the reason, a sentence for the user.

    Returns:
        True if this call ended the trial. If several processes call it at once, this is so in one of them.
    """
    with defer_signals():
        trials = study.get_trials(deepcopy=False)
        trial = trials[number]
        if trial.state.is_finished():
            return False
        # Only attempts that ended their run or their worker count, not those that the user interrupted.
        broken_off = sum(attributes.reason_of(each).get("kind") in _BROKEN_OFF for each in retry_history(trials, trial))
        is_last = kind in _BROKEN_OFF and broken_off + 1 >= MAX_ATTEMPTS
        if is_last:
            hint = " (out of memory?)" if kind == "died" else ""
            kind, text = "model", f"tried {MAX_ATTEMPTS} times, last error: {text}{hint}"
        if not _store_failure(study, trial, kind, text):
            return False
        if not is_last:
            _enqueue_retry(study, trial)
        return True


def withdraw_duplicate(study: optuna.Study, number: int) -> bool:
    """End a retry for good if an earlier trial retries the same trial; return True if it was ended.

    Two processes may queue one trial, see `enqueue_lost`. The retry with the lowest number is kept: the storage gives
    every number only once.
    """
    trials = study.get_trials(deepcopy=False)
    if not _is_duplicate(trials, trials[number]):
        return False
    with defer_signals():
        _store_failure(study, trials[number], "interrupted", "queued twice")
    return True


def enqueue_lost(study: optuna.Study) -> None:
    """Queue again the failed trials that were to be retried when the process that failed them died."""
    trials = study.get_trials(deepcopy=False)
    queued = {trial.user_attrs.get(attributes.RETRY_OF) for trial in trials}
    for trial in trials:
        retried = trial.state == TrialState.FAIL and attributes.reason_of(trial).get("kind") in _RETRIED
        if retried and trial.number not in queued and not _is_duplicate(trials, trial):
            _enqueue_retry(study, trial)


def fail_dead_trials(study: optuna.Study) -> None:
    """Fail and queue again the running trials whose process has ended, and those that no process owns."""
    for trial in _running(study):
        if (worker := trial.user_attrs.get(attributes.WORKER)) and is_gone(worker):
            fail_trial(study, trial.number, "died", "its worker died")
    # A trial without an owner is either a moment old, or its process died before it could store itself.
    ownerless = _find_ownerless(study)
    if ownerless:
        time.sleep(_OWNER_SECONDS)
        for number in ownerless & _find_ownerless(study):
            fail_trial(study, number, "died", "its worker died")


def fail_trials_of(study: optuna.Study, worker: Mapping[str, Any], kind: attributes.ReasonKind, text: str) -> list[int]:
    """Fail and queue again the running trials of a worker that has ended; return the numbers of all its trials."""
    own = [each for each in study.get_trials(deepcopy=False) if each.user_attrs.get(attributes.WORKER) == worker]
    for trial in own:
        fail_trial(study, trial.number, kind, text)
    return [trial.number for trial in own]


# NOTE: a slot never changes, and reading all trials takes 2-4 ms on SQLite, several times a trial.
_slots: MutableMapping[optuna.Study, dict[int, int]] = WeakKeyDictionary()


def retry_history(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> list[FrozenTrial]:
    """Return the earlier attempts of a trial, latest first.

    Args:
        trials: all trials of the study, by number.
        trial: the latest attempt.
    """
    earlier = []
    while (previous := trial.user_attrs.get(attributes.RETRY_OF)) is not None:
        trial = trials[previous]
        earlier.append(trial)
    return earlier


def slot_of(study: optuna.Study, trial: FrozenTrial) -> int:
    """Return the 0-based slot of a trial in its study: its index among the trials that are not retries.

    A retry has the slot of its first attempt. So the slots of an interrupted study are those of an uninterrupted one.
    """
    slots = _slots.setdefault(study, {})
    if trial.number not in slots:
        trials = study.get_trials(deepcopy=False)
        first = [trial, *retry_history(trials, trial)][-1]
        slots[trial.number] = sum(attributes.RETRY_OF not in other.user_attrs for other in trials[: first.number])
    return slots[trial.number]


def set_owner(study: optuna.Study, trial: FrozenTrial) -> None:
    """Store in a trial that has just begun that this process runs it.

    Raises:
        UpdateFinishedTrialError: another process has ended the trial already.
    """
    study._storage.set_trial_user_attr(trial._trial_id, attributes.WORKER, identity(os.getpid()))


def maybe_alive(study: optuna.Study) -> list[FrozenTrial]:
    """Return the running trials whose process lives on this machine, and those of other machines.

    Of the processes of another machine, this machine cannot tell whether they live.
    """
    owned = [trial for trial in _running(study) if attributes.WORKER in trial.user_attrs]
    return [trial for trial in owned if not is_gone(trial.user_attrs[attributes.WORKER])]


def _parameters(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters of a trial: those that were set before it began, and those sampled since."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _store_failure(study: optuna.Study, trial: FrozenTrial, kind: attributes.ReasonKind, text: str) -> bool:
    """Store the reason of a failure and end the trial; return False if another process has ended it already.

    The reason comes first, because an ended trial cannot be changed any more.

    NOTE: a trial of another process has no Trial object here, and `Study.tell` looks at the state before it writes: the
    storage's own methods do both in one transaction. They are public, the trial's id is not.
    """
    try:
        study._storage.set_trial_user_attr(trial._trial_id, attributes.REASON, attributes.reason(kind, text))
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    except UpdateFinishedTrialError:
        return False
    return True


def _enqueue_retry(study: optuna.Study, trial: FrozenTrial) -> None:
    study.enqueue_trial(_parameters(trial), user_attrs={attributes.RETRY_OF: trial.number})


def _is_duplicate(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> bool:
    """Tell whether an earlier trial is a retry of the same trial."""
    first = trial.user_attrs.get(attributes.RETRY_OF)
    earlier = trials[: trial.number] if first is not None else ()
    return any(other.user_attrs.get(attributes.RETRY_OF) == first for other in earlier)


def _running(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def _find_ownerless(study: optuna.Study) -> set[int]:
    """Return the numbers of the running trials in which no process has stored itself as the owner yet."""
    return {trial.number for trial in _running(study) if attributes.WORKER not in trial.user_attrs}

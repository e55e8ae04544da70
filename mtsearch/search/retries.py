"""Trials that came to nothing are tried again: same parameters, same place in the study, a bounded number of times."""

import os
import time
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from mtsearch.machine import identity, is_gone
from mtsearch.search import attributes
from mtsearch.signals import signals_deferred

MAX_ATTEMPTS = 3
_SIGNING_SECONDS = 3.0
_BROKEN_OFF = ("died", "error")
_RETRIED = (*_BROKEN_OFF, "interrupted")


def give_up(study: optuna.Study, number: int, kind: attributes.ReasonKind, text: str) -> bool:
    """End a running trial as FAIL with its reason and queue its parameters again; an ended one is left alone.

    A configuration that has broken off its run or its worker `MAX_ATTEMPTS` times is not tried again: it fails for a
    reason of the model, and counts.

    Returns:
        Whether this call ended it. Of several processes that give it up at once one does, and the others do nothing.
    """
    with signals_deferred():
        trials = study.get_trials(deepcopy=False)
        trial = trials[number]
        if trial.state.is_finished():
            return False
        broken_off = sum(attributes.reason_of(each).get("kind") in _BROKEN_OFF for each in chain(trials, trial))
        hopeless = kind in _BROKEN_OFF and broken_off + 1 >= MAX_ATTEMPTS
        if hopeless:
            hint = " (out of memory?)" if kind == "died" else ""
            kind, text = "model", f"tried {MAX_ATTEMPTS} times, at last: {text}{hint}"
        if not _fail(study, trial, kind, text):
            return False
        if not hopeless:
            _queue(study, trial)
        return True


def withdraw_duplicate(study: optuna.Study, number: int) -> bool:
    """End a retry for good where an earlier trial is a retry of the same one; returns whether it was.

    Two processes may queue one trial, see `queue_the_lost`; the number decides, which the storage gives only once.
    """
    trials = study.get_trials(deepcopy=False)
    if not _is_duplicate(trials, trials[number]):
        return False
    with signals_deferred():
        _fail(study, trials[number], "interrupted", "queued twice")
    return True


def queue_the_lost(study: optuna.Study) -> None:
    """Queue again what was given up by a process that died before it could."""
    trials = study.get_trials(deepcopy=False)
    queued = {trial.user_attrs.get(attributes.RETRY_OF) for trial in trials}
    for trial in trials:
        retried = trial.state == TrialState.FAIL and attributes.reason_of(trial).get("kind") in _RETRIED
        if retried and trial.number not in queued and not _is_duplicate(trials, trial):
            _queue(study, trial)


def give_up_the_dead(study: optuna.Study) -> None:
    """Give up the running trials whose process is gone from this machine, or never came to sign them."""
    for trial in _running(study):
        if (worker := trial.user_attrs.get(attributes.WORKER)) and is_gone(worker):
            give_up(study, trial.number, "died", "its worker died")
    unsigned = _unsigned(study)
    if unsigned:
        time.sleep(_SIGNING_SECONDS)
        for number in unsigned & _unsigned(study):
            give_up(study, number, "died", "its worker died")


def give_up_trials_of(
    study: optuna.Study, worker: Mapping[str, Any], kind: attributes.ReasonKind, text: str
) -> list[int]:
    """Give up the running trials of a worker that has ended; returns the numbers of all that it ever ran."""
    own = [each for each in study.get_trials(deepcopy=False) if each.user_attrs.get(attributes.WORKER) == worker]
    for trial in own:
        give_up(study, trial.number, kind, text)
    return [trial.number for trial in own]


# NOTE: a place never changes, and reading all trials takes 2-4 ms on SQLite, several times a trial.
_places: MutableMapping[optuna.Study, dict[int, int]] = WeakKeyDictionary()


def chain(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> list[FrozenTrial]:
    """The attempts before this trial, latest first."""
    earlier = []
    while (previous := trial.user_attrs.get(attributes.RETRY_OF)) is not None:
        trial = trials[previous]
        earlier.append(trial)
    return earlier


def place(study: optuna.Study, trial: FrozenTrial) -> int:
    """How many trials that are no retries came before it; a retry has the place of its first attempt."""
    places = _places.setdefault(study, {})
    if trial.number not in places:
        trials = study.get_trials(deepcopy=False)
        first = [trial, *chain(trials, trial)][-1]
        places[trial.number] = sum(attributes.RETRY_OF not in other.user_attrs for other in trials[: first.number])
    return places[trial.number]


def sign(study: optuna.Study, trial: FrozenTrial) -> None:
    """Write into a trial that has just begun that this process runs it.

    Raises:
        UpdateFinishedTrialError: it was given up already.
    """
    study._storage.set_trial_user_attr(trial._trial_id, attributes.WORKER, identity(os.getpid()))


def not_known_dead(study: optuna.Study) -> list[FrozenTrial]:
    """The running trials whose process lives on this machine, and those of others, of which nothing is known."""
    signed = [trial for trial in _running(study) if attributes.WORKER in trial.user_attrs]
    return [trial for trial in signed if not is_gone(trial.user_attrs[attributes.WORKER])]


def _parameters(trial: FrozenTrial) -> dict[str, Any]:
    """What was set before it began and what was sampled since."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _fail(study: optuna.Study, trial: FrozenTrial, kind: attributes.ReasonKind, text: str) -> bool:
    """The reason first, which an ended trial could not take any more; False where somebody else was faster.

    NOTE: a trial of another process has no Trial object here, and `Study.tell` looks at the state before it writes: the
    storage's own methods do both in one transaction. They are public, the trial's id is not.
    """
    try:
        study._storage.set_trial_user_attr(trial._trial_id, attributes.REASON, attributes.reason(kind, text))
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    except UpdateFinishedTrialError:
        return False
    return True


def _queue(study: optuna.Study, trial: FrozenTrial) -> None:
    study.enqueue_trial(_parameters(trial), user_attrs={attributes.RETRY_OF: trial.number})


def _is_duplicate(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> bool:
    first = trial.user_attrs.get(attributes.RETRY_OF)
    earlier = trials[: trial.number] if first is not None else ()
    return any(other.user_attrs.get(attributes.RETRY_OF) == first for other in earlier)


def _running(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def _unsigned(study: optuna.Study) -> set[int]:
    """Whose process is between asking and signing, for milliseconds or for ever."""
    return {trial.number for trial in _running(study) if attributes.WORKER not in trial.user_attrs}

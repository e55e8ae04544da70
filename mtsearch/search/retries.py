"""Trials that are tried again: a failed attempt, its retry in the queue, and the slot that all attempts share."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import optuna
from optuna.trial import FrozenTrial, TrialState

from mtsearch.search import attributes
from mtsearch.signals import defer_signals

MAX_ATTEMPTS = 3
_BROKEN_OFF = ("died", "error")
_RETRIED = (*_BROKEN_OFF, "interrupted")


def fail_trial(study: optuna.Study, number: int, kind: attributes.ReasonKind, text: str) -> None:
    """End a running trial as failed and queue its parameters again.

    A configuration that has ended its run or its worker `MAX_ATTEMPTS` times is not tried again: it fails for a reason
    of the model, and uses up budget.

    Args:
        study: of the trial.
        number: of the trial.
        kind: of the reason, see `attributes.reason`.
        text: the reason, a sentence for the user.
    """
    with defer_signals():
        trials = study.get_trials(deepcopy=False)
        trial = trials[number]
        # Only attempts that ended their run or their worker count, not those that the user interrupted.
        broken_off = sum(attributes.reason_of(each).get("kind") in _BROKEN_OFF for each in retry_history(trials, trial))
        is_last = kind in _BROKEN_OFF and broken_off + 1 >= MAX_ATTEMPTS
        if is_last:
            hint = " (out of memory?)" if kind == "died" else ""
            kind, text = "model", f"tried {MAX_ATTEMPTS} times, last error: {text}{hint}"
        # The reason comes first, because an ended trial cannot be changed any more.
        # NOTE: a trial of an earlier run has no Trial object here. The storage's methods are public, its id is not.
        study._storage.set_trial_user_attr(trial._trial_id, attributes.REASON, attributes.reason(kind, text))
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        if not is_last:
            _enqueue_retry(study, trial)


def fail_running_trials(study: optuna.Study, kind: attributes.ReasonKind, text: str) -> None:
    """End all running trials as failed and queue them again; for the owner of the study, when none of them runs."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        fail_trial(study, trial.number, kind, text)


def enqueue_lost(study: optuna.Study) -> None:
    """Queue again the failed trials that were to be retried when the process that failed them died."""
    trials = study.get_trials(deepcopy=False)
    queued = {trial.user_attrs.get(attributes.RETRY_OF) for trial in trials}
    for trial in trials:
        retried = trial.state == TrialState.FAIL and attributes.reason_of(trial).get("kind") in _RETRIED
        if retried and trial.number not in queued and attributes.reason_of(trial) != attributes.QUEUED_TWICE:
            _enqueue_retry(study, trial)


# NOTE: a slot never changes, and to count it anew takes a millisecond with 10,000 trials, several times a trial.
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


def _enqueue_retry(study: optuna.Study, trial: FrozenTrial) -> None:
    params: dict[str, Any] = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    study.enqueue_trial(params, user_attrs={attributes.RETRY_OF: trial.number})

"""Trials that came to nothing are tried again: same parameters, same place in the study, a bounded number of times."""

import time
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import optuna
from optuna.trial import FrozenTrial, TrialState

from mtsearch.machine import is_gone, lives_here
from mtsearch.search import attributes
from mtsearch.search.interrupts import signals_blocked

MAX_DEATHS = 3
_SIGNING_SECONDS = 3.0


def give_up(study: optuna.Study, number: int, kind: attributes.ReasonKind, text: str) -> None:
    """End a running trial as FAIL with its reason and queue its parameters again; an ended one is left alone.

    A configuration whose worker has died `MAX_DEATHS` times is not tried again: it fails for a reason of the model.
    """
    with signals_blocked():
        trials = study.get_trials(deepcopy=False)
        trial = trials[number]
        if trial.state.is_finished():
            return
        deaths = sum(attributes.reason_of(each).get("kind") == "died" for each in chain(trials, trial))
        hopeless = kind == "died" and deaths + 1 >= MAX_DEATHS
        if hopeless:
            kind, text = "model", f"its worker died {MAX_DEATHS} times (out of memory?)"
        # NOTE: a trial of another process has no Trial object here; the storage's own method is public, its id is not.
        study._storage.set_trial_user_attr(trial._trial_id, attributes.REASON, attributes.reason(kind, text))
        study.tell(number, state=TrialState.FAIL)
        if not hopeless:
            study.enqueue_trial(_parameters(trial), user_attrs={attributes.RETRY_OF: number})


def give_up_the_dead(study: optuna.Study) -> None:
    """Give up the running trials whose process is gone from this machine, or never came to sign them."""
    for trial in _running(study):
        if (worker := trial.user_attrs.get(attributes.WORKER)) and is_gone(worker):
            give_up(study, trial.number, "died", "its process died")
    unsigned = _unsigned(study)
    if unsigned:
        time.sleep(_SIGNING_SECONDS)
        for number in unsigned & _unsigned(study):
            give_up(study, number, "died", "its process died")


def give_up_trials_of(
    study: optuna.Study, worker: Mapping[str, Any], kind: attributes.ReasonKind, text: str
) -> list[int]:
    """Give up the running trials of a worker that has ended; returns their numbers."""
    numbers = [trial.number for trial in _running(study) if trial.user_attrs.get(attributes.WORKER) == worker]
    for number in numbers:
        give_up(study, number, kind, text)
    return numbers


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


def alive_here(study: optuna.Study) -> list[FrozenTrial]:
    """The running trials whose process lives on this machine."""
    signed = [trial for trial in _running(study) if attributes.WORKER in trial.user_attrs]
    return [trial for trial in signed if lives_here(trial.user_attrs[attributes.WORKER])]


def _parameters(trial: FrozenTrial) -> dict[str, Any]:
    """What was set before it began and what was sampled since."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _running(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def _unsigned(study: optuna.Study) -> set[int]:
    """Whose process is between asking and signing, for milliseconds or for ever."""
    return {trial.number for trial in _running(study) if attributes.WORKER not in trial.user_attrs}

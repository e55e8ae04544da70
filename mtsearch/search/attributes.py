"""Attributes that mtsearch stores in Optuna's studies and trials: keys, reasons of failures, retries, test results.

They are stored through Optuna's public interface, so that every storage can hold them and optuna-dashboard shows them.
"""

import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal
from weakref import WeakKeyDictionary

import optuna
from optuna.trial import FrozenTrial, TrialState

from mtsearch.signals import defer_signals

# Attributes of a study.
DEFINITION = "mtsearch:definition"
PROVENANCE = "mtsearch:passport"
BASELINES = "mtsearch:baselines"
INITIAL_TRIALS = "mtsearch:listed_trials"
WARM_START = "mtsearch:warm_start"
POPULATION = "mtsearch:population"
OWNER = "mtsearch:owner"  # the process that runs the study, see `ownership`
RUN = "mtsearch:run:"  # followed by the time at which the run began
REPORT = "mtsearch:report:"
"""Key of what was evaluated on the test rows, followed by TRIAL:SEED of a training, TRIAL:SEEDxMEMBERS of a model of
several trainings from that seed on, or `baselines`."""

# Attributes of a trial.
CONFIG = "mtsearch:config"
CURVE = "mtsearch:curve"
METRICS = "mtsearch:metrics"
REPEATS = "mtsearch:repeats"
STANDARD_ERRORS = "mtsearch:standard_errors"
BEST_EPOCH = "mtsearch:best_epoch"
REASON = "mtsearch:reason"
SECONDS = "mtsearch:seconds"
PARAMETERS = "mtsearch:parameters"
INITIAL_LABEL = "mtsearch:listed"
RETRY_OF = "mtsearch:retry_of"
RUNGS = "mtsearch:rungs"  # the objectives at the epochs at which the pruner compares trials
PRUNED_AT = "mtsearch:pruned_at"

ReasonKind = Literal["model", "interrupted", "died", "error", "pruned"]


def reason(kind: ReasonKind, text: str) -> Mapping[str, str]:
    """Return the reason why a trial did not complete, as it is stored.

    A failed trial uses up budget if the reason is of the kind `model`, and is run again otherwise.
    """
    return {"kind": kind, "text": text}


QUEUED_TWICE = reason("interrupted", "queued twice")
"""Reason of a trial in the queue that ended because another one is the same retry."""


def counts(trial: FrozenTrial) -> bool:
    """Tell whether a trial uses up budget: it is complete, pruned, or failed for a reason of the model."""
    if trial.state == TrialState.FAIL:
        return reason_of(trial).get("kind") == "model"
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def reason_of(trial: FrozenTrial) -> Mapping[str, Any]:
    """Return the stored reason why a trial did not complete; empty if none is stored."""
    stored: Mapping[str, Any] = trial.user_attrs.get(REASON, {})
    return stored


def retry_history(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> list[FrozenTrial]:
    """Return the earlier attempts of a trial, latest first.

    Args:
        trials: all trials of the study, by number.
        trial: the latest attempt.
    """
    earlier = []
    while (previous := trial.user_attrs.get(RETRY_OF)) is not None:
        trial = trials[previous]
        earlier.append(trial)
    return earlier


# NOTE: a slot never changes, and to count it anew takes a millisecond with 10,000 trials, several times a trial.
_slots: MutableMapping[optuna.Study, list[int]] = WeakKeyDictionary()


def slot_of(study: optuna.Study, trial: FrozenTrial) -> int:
    """Return the 0-based slot of a trial in its study: its index among the trials that are not retries.

    A retry has the slot of its first attempt. So the slots of an interrupted study are those of an uninterrupted one.
    """
    trials, slots = study.get_trials(deepcopy=False), _slots.setdefault(study, [])
    # A trial is a retry from its creation on: the number of other trials before each is counted once.
    for other in trials[len(slots) :]:
        slots.append(slots[-1] + (RETRY_OF not in trials[other.number - 1].user_attrs) if slots else 0)
    return slots[[trial, *retry_history(trials, trial)][-1].number]


_TRAINING = re.compile(rf"{REPORT}(\d+):(\d+)(?:x(\d+))?", re.ASCII)
_BASELINES = f"{REPORT}baselines"


@dataclass(frozen=True)
class TestResult:
    """The metrics of a trial's configuration, trained on the training and validation rows, on the test rows.

    Attributes:
        metrics: on the test rows; empty if the training failed.
        failure: the reason of the failure; empty if the training did not fail.
    """

    metrics: Mapping[str, float]
    failure: str = ""


class TestResultStore:
    """A store of a study's test results, which writes them to the study's attributes.

    Args:
        study: made by mtsearch, in a storage that can be written.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        # Stored with each result, so that results on other rows are recognised when they are read.
        self._rows = _fingerprints(study.user_attrs)

    def store(self, trial: int, seed: int, result: TestResult, members: int = 1) -> None:
        """Store the result of one model in place of an earlier one of the same trial, first seed and members."""
        values = {"failure": result.failure} if result.failure else {"metrics": dict(result.metrics)}
        self._write(f"{REPORT}{trial}:{seed}{f'x{members}' if members > 1 else ''}", values)

    def store_baselines(self, baselines: Mapping[str, Mapping[str, float]]) -> None:
        """Store the metrics of the baselines on the test rows, by the name of the baseline."""
        self._write(_BASELINES, {"metrics": {name: dict(metrics) for name, metrics in baselines.items()}})

    def _write(self, key: str, values: Mapping[str, Any]) -> None:
        with defer_signals():
            self._study.set_user_attr(key, {**self._rows, "mtsearch": version("mtsearch"), **values})


def stored_test_results(stored: Mapping[str, Any]) -> dict[int, dict[int, dict[int, TestResult]]]:
    """Return the test results in a study's attributes, by members, trial and first seed; not those from other rows.

    Args:
        stored: the study's user attributes.
    """
    found: dict[int, dict[int, dict[int, TestResult]]] = {}
    for key, value in stored.items():
        if (match := _TRAINING.fullmatch(key)) and _has_same_rows(stored, value):
            result = TestResult(value.get("metrics", {}), value.get("failure", ""))
            of_members = found.setdefault(int(match[3] or 1), {})
            of_members.setdefault(int(match[1]), {})[int(match[2])] = result
    return found


def stored_test_baselines(stored: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the metrics of the baselines on the test rows, by name; empty before the first report."""
    value = stored.get(_BASELINES, {})
    return value["metrics"] if value and _has_same_rows(stored, value) else {}


def _has_same_rows(stored: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return all(value.get(part) == fingerprint for part, fingerprint in _fingerprints(stored).items())


def _fingerprints(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fingerprints of a study's data and split, which tell its rows from those of another study."""
    provenance = stored.get(PROVENANCE, {})
    return {part: provenance.get(part, {}).get("fingerprint") for part in ("data", "split")}

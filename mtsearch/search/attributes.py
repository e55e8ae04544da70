"""What a study records beside Optuna's own: the keys of its attributes, and when a trial counts.

Everything goes through Optuna's public interface, so that every storage holds it and optuna-dashboard shows it.
"""

from collections.abc import Mapping
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

# of a study
DEFINITION = "mtsearch:definition"
PASSPORT = "mtsearch:passport"
BASELINES = "mtsearch:baselines"
LISTED_TRIALS = "mtsearch:listed_trials"
WARM_START = "mtsearch:warm_start"
POPULATION = "mtsearch:population"
RUN = "mtsearch:run:"  # and the time of its begin
REPORT = "mtsearch:report:"  # and TRIAL:SEED of a training judged on test, or `baselines`

# of a trial
CONFIG = "mtsearch:config"
CURVE = "mtsearch:curve"
METRICS = "mtsearch:metrics"
REPEATS = "mtsearch:repeats"
STANDARD_ERRORS = "mtsearch:standard_errors"
BEST_EPOCH = "mtsearch:best_epoch"
REASON = "mtsearch:reason"
SECONDS = "mtsearch:seconds"
PARAMETERS = "mtsearch:parameters"
WORKER = "mtsearch:worker"
ALIVE = "mtsearch:alive"  # a count that moves while it runs, see `liveness`
LISTED = "mtsearch:listed"
RETRY_OF = "mtsearch:retry_of"
RUNGS = "mtsearch:rungs"  # its objectives at the epochs at which a pruner judges
PRUNED_AT = "mtsearch:pruned_at"

ReasonKind = Literal["model", "interrupted", "died", "error", "pruned"]


def reason(kind: ReasonKind, text: str) -> Mapping[str, str]:
    """Why a trial did not complete: of those that failed a reason of the `model` counts, the others do not."""
    return {"kind": kind, "text": text}


def counts(trial: FrozenTrial) -> bool:
    """Whether the trial uses up budget: complete, pruned, or failed for a reason of the model."""
    if trial.state == TrialState.FAIL:
        return reason_of(trial).get("kind") == "model"
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def reason_of(trial: FrozenTrial) -> Mapping[str, Any]:
    """The stored reason; empty where there is none."""
    stored: Mapping[str, Any] = trial.user_attrs.get(REASON, {})
    return stored

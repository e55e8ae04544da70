"""[constraints]: a trial that takes more than it may is kept, tells the sampler so, and is on no front."""

from collections.abc import Mapping

import optuna

from mtsearch.definition import ConstraintsSection

_OLD_KEY = "constraints"


def excesses(limits: ConstraintsSection, parameters: int, seconds: float) -> dict[str, float]:
    """By how much of itself each limit is exceeded; at most 0 where it is kept.

    Args:
        limits: of the definition.
        parameters: number of trainable weights.
        seconds: of training, with one seed.
    """
    taken = {"max_parameters": (parameters, limits.max_parameters), "max_seconds": (seconds, limits.max_seconds)}
    return {name: used / limit - 1 for name, (used, limit) in taken.items() if limit is not None}


def constrain(trial: optuna.Trial, values: Mapping[str, float]) -> None:
    """Store them as Optuna's constraints of a running trial."""
    for name, value in values.items():
        trial.set_constraint(name, value)
    if values:
        # NOTE: optuna-dashboard 0.21 knows only the attribute of Optuna 4; its best trials would be infeasible ones.
        trial.storage.set_trial_system_attr(trial._trial_id, _OLD_KEY, list(values.values()))

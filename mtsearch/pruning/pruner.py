"""A pruner for Optuna's multi-objective studies, in which `trial.report` and `trial.should_prune` raise an error.

Optuna itself is not imported: protocols state which attributes of a study and a trial are used.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from mtsearch.pruning.layers import Floats, non_dominated_layers
from mtsearch.pruning.rules import Rule, Rung

_COMPARED = ("RUNNING", "PRUNED", "COMPLETE")


class Named(Protocol):
    """A member of one of Optuna's enumerations."""

    @property
    def name(self) -> str:
        """The member's name, such as `RUNNING` or `MAXIMIZE`."""


class StoredTrial(Protocol):
    """The part of `optuna.trial.FrozenTrial` that the pruner reads."""

    @property
    def number(self) -> int:
        """The trial's number in the study, 0-based."""

    @property
    def state(self) -> Named:
        """The trial's state: `RUNNING`, `COMPLETE`, `PRUNED`, `FAIL` or `WAITING`."""

    @property
    def user_attrs(self) -> Mapping[str, Any]:
        """The user attributes by name."""

    @property
    def values(self) -> Any:
        """The objectives of a complete trial, in the study's order."""


class RunningTrial(Protocol):
    """The part of `optuna.Trial` that the pruner uses."""

    @property
    def number(self) -> int:
        """The trial's number in the study, 0-based."""

    def set_user_attr(self, key: str, value: Any) -> None:
        """Store an attribute whose value JSON can hold."""


Stored = TypeVar("Stored", bound=StoredTrial)
Stored_co = TypeVar("Stored_co", bound=StoredTrial, covariant=True)


class Study(Protocol[Stored_co]):
    """The part of `optuna.Study` that the pruner uses."""

    @property
    def directions(self) -> Sequence[Named]:
        """The direction of each objective, `MINIMIZE` or `MAXIMIZE`."""

    def get_trials(self, deepcopy: bool = ...) -> Sequence[Stored_co]:
        """Return all trials of the study."""


class MultiObjectivePruner(Generic[Stored]):
    """A pruner that tells after each epoch whether a trial should stop; for any number of processes on one storage.

        pruner = MultiObjectivePruner(study, Halving())

        def objective(trial):
            for epoch in range(1, 28):
                ...
                if pruner.should_stop(trial, epoch, [error, size]):
                    raise optuna.TrialPruned

    A trial's vectors are stored in one user attribute, not in Optuna's intermediate values: with those a pruned trial
    makes TPESampler fail in a study of several objectives. A trial is compared with complete, pruned and running
    trials, not with failed or infeasible ones, and not with vectors that a retried trial has inherited from another.

    Among Optuna's samplers TPE learns from pruned trials; NSGA-II and NSGA-III ignore them, so that a generation takes
    longer; GPSampler proposes them again and again.

    Args:
        study: `optuna.Study`.
        rule: `Halving` or `Dominated`.
        attribute: name of the user attribute that holds the vectors.
        ignore: returns True for further trials that are not compared with.
    """

    def __init__(
        self,
        study: Study[Stored],
        rule: Rule,
        attribute: str = "pruning:rungs",
        ignore: Callable[[Stored], bool] = lambda _: False,
    ) -> None:
        self._study, self._rule, self._attribute, self._ignore = study, rule, attribute, ignore
        self._signs = [-1.0 if direction.name == "MAXIMIZE" else 1.0 for direction in study.directions]

    def should_stop(self, trial: RunningTrial, epoch: int, values: Sequence[float]) -> bool:
        """Tell whether the trial stops after this epoch; at a rung its values are stored first, for other trials.

        Args:
            trial: that runs.
            epoch: that has ended, 1-based; call this for the same epochs of every trial.
            values: the objectives, in the study's order and directions.

        Raises:
            ValueError: the number of values is not the study's number of objectives.
        """
        if len(values) != len(self._signs):
            raise ValueError(f"{len(values)} values for {len(self._signs)} objectives")
        if epoch not in self._rule.rungs:
            return False
        trials = self._study.get_trials(deepcopy=False)
        own = [float(value) for value in values]
        # Store this vector beside those of the trial's earlier rungs.
        earlier = next((self._vectors(each) for each in trials if each.number == trial.number), {})
        trial.set_user_attr(self._attribute, {"trial": trial.number, "vectors": {**earlier, str(epoch): own}})
        # Compare it with the other trials that have reached this rung.
        others = [each for each in trials if each.number != trial.number and self._is_compared(each)]
        return self._rule.stops(self._losses([own])[0], self._collect_rung(others, str(epoch)))

    def _collect_rung(self, others: Sequence[Stored], epoch: str) -> Rung:
        """Return the vectors that other trials had at this epoch, and which of these trials are on the front."""
        reached = [each for each in others if epoch in self._vectors(each)]
        front = self._front_numbers(others)
        return Rung(
            vectors=self._losses([self._vectors(each)[epoch] for each in reached]),
            front=np.array([each.number in front for each in reached], dtype=np.bool_),
        )

    def _front_numbers(self, trials: Sequence[Stored]) -> set[int]:
        """Return the numbers of the complete trials that no other complete trial dominates."""
        ended = [each for each in trials if each.state.name == "COMPLETE" and all(map(math.isfinite, each.values))]
        layers = non_dominated_layers(self._losses([each.values for each in ended]))
        return {each.number for each, layer in zip(ended, layers, strict=True) if layer == 0}

    def _is_compared(self, trial: Stored) -> bool:
        """Tell whether other trials are compared with this one."""
        constraints: Mapping[str, float] = getattr(trial, "constraints", {})  # since Optuna 5
        feasible = all(value <= 0 for value in constraints.values())
        return trial.state.name in _COMPARED and feasible and not self._ignore(trial)

    def _vectors(self, trial: Stored) -> Mapping[str, Sequence[float]]:
        """Return the stored values of a trial by epoch; empty if a retried trial has inherited them from another."""
        stored: Mapping[str, Any] = trial.user_attrs.get(self._attribute, {})
        vectors: Mapping[str, Sequence[float]] = stored["vectors"] if stored.get("trial") == trial.number else {}
        return vectors

    def _losses(self, values: Sequence[Sequence[float]]) -> Floats:
        """Return the values as losses, [n, m], lower is better."""
        losses: Floats = np.array(values, dtype=np.float64).reshape(-1, len(self._signs)) * self._signs
        return losses

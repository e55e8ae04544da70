"""Pruning in Optuna's multi-objective studies, which `trial.report` and `trial.should_prune` refuse.

Optuna itself is not imported: what is needed of a study and a trial is stated here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from mtsearch.pruning.layers import Floats, non_dominated_layers
from mtsearch.pruning.rules import Rule, Rung

_COMPARED = ("RUNNING", "PRUNED", "COMPLETE")


class Named(Protocol):
    """A member of an enumeration."""

    @property
    def name(self) -> str:
        """`RUNNING`, `MAXIMIZE`."""


class StoredTrial(Protocol):
    """What is read of `optuna.trial.FrozenTrial`."""

    @property
    def number(self) -> int:
        """0-based."""

    @property
    def state(self) -> Named:
        """`RUNNING`, `COMPLETE`, `PRUNED`, `FAIL` or `WAITING`."""

    @property
    def user_attrs(self) -> Mapping[str, Any]:
        """By name."""

    @property
    def values(self) -> Any:
        """One per objective where it is complete."""


class RunningTrial(Protocol):
    """What is used of `optuna.Trial`."""

    @property
    def number(self) -> int:
        """0-based."""

    def set_user_attr(self, key: str, value: Any) -> None:
        """Store a value that JSON can hold."""


Stored = TypeVar("Stored", bound=StoredTrial)
Seen_co = TypeVar("Seen_co", bound=StoredTrial, covariant=True)


class Study(Protocol[Seen_co]):
    """What is used of `optuna.Study`."""

    @property
    def directions(self) -> Sequence[Named]:
        """One per objective, `MINIMIZE` or `MAXIMIZE`."""

    def get_trials(self, deepcopy: bool = ...) -> Sequence[Seen_co]:
        """All of them."""


class MultiObjectivePruner(Generic[Stored]):
    """Tells, after an epoch, whether a trial shall be stopped; for any number of processes on one storage.

        pruner = MultiObjectivePruner(study, Halving())

        def objective(trial):
            for epoch in range(1, 28):
                ...
                if pruner.should_stop(trial, epoch, [error, size]):
                    raise optuna.TrialPruned

    A trial's vectors are kept in one user attribute, never in Optuna's intermediate values: with them a pruned trial
    makes TPESampler fail in a study of several objectives. It is compared with complete, pruned and running trials, not
    with failed ones, infeasible ones, or what a retried trial has inherited.

    Of Optuna's samplers TPE learns from pruned trials; NSGA-II and NSGA-III pass them over, so that a generation takes
    longer; GPSampler proposes them again and again.

    Args:
        study: `optuna.Study`.
        rule: `Halving` or `Dominated`.
        attribute: name of the user attribute.
        ignore: what else not to compare with.
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
        """Whether the trial is to end here; at a rung its values are stored first, so that others see them.

        Args:
            trial: that runs.
            epoch: that has ended, 1-based; of every trial the same epochs are to be told.
            values: the objectives, in the study's order and directions.

        Raises:
            ValueError: more values or fewer than the study has objectives.
        """
        if len(values) != len(self._signs):
            raise ValueError(f"{len(values)} values for {len(self._signs)} objectives")
        if epoch not in self._rule.rungs:
            return False
        trials = self._study.get_trials(deepcopy=False)
        own = [float(value) for value in values]
        earlier = next((self._vectors(each) for each in trials if each.number == trial.number), {})
        kept = {"trial": trial.number, "vectors": {**earlier, str(epoch): own}}
        trial.set_user_attr(self._attribute, kept)
        others = [each for each in trials if each.number != trial.number and self._is_compared(each)]
        return self._rule.stops(self._losses([own])[0], self._rung(others, str(epoch)))

    def _rung(self, others: Sequence[Stored], epoch: str) -> Rung:
        there = [each for each in others if epoch in self._vectors(each)]
        front = self._front(others)
        return Rung(
            vectors=self._losses([self._vectors(each)[epoch] for each in there]),
            front=np.array([each.number in front for each in there], dtype=np.bool_),
        )

    def _front(self, trials: Sequence[Stored]) -> set[int]:
        """Numbers of the complete trials that none dominates."""
        ended = [each for each in trials if each.state.name == "COMPLETE" and all(map(math.isfinite, each.values))]
        layers = non_dominated_layers(self._losses([each.values for each in ended]))
        return {each.number for each, layer in zip(ended, layers, strict=True) if layer == 0}

    def _is_compared(self, trial: Stored) -> bool:
        constraints: Mapping[str, float] = getattr(trial, "constraints", {})  # since Optuna 5
        feasible = all(value <= 0 for value in constraints.values())
        return trial.state.name in _COMPARED and feasible and not self._ignore(trial)

    def _vectors(self, trial: Stored) -> Mapping[str, Sequence[float]]:
        """Its values by epoch; a retried trial inherits the attribute of another, which is not its own."""
        stored: Mapping[str, Any] = trial.user_attrs.get(self._attribute, {})
        vectors: Mapping[str, Sequence[float]] = stored["vectors"] if stored.get("trial") == trial.number else {}
        return vectors

    def _losses(self, values: Sequence[Sequence[float]]) -> Floats:
        """[n, m], lower is better."""
        losses: Floats = np.array(values, dtype=np.float64).reshape(-1, len(self._signs)) * self._signs
        return losses

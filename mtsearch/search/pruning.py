"""Which trials of a study end before their last epoch."""

from typing import TypeAlias

import optuna
from optuna.trial import FrozenTrial, TrialState

from mtsearch.definition import Pruner
from mtsearch.machine import is_gone
from mtsearch.pruning import Dominated, Halving, MultiObjectivePruner, Rule
from mtsearch.search import attributes
from mtsearch.trial import EpochMetrics

_RULES: dict[str, type[Halving] | type[Dominated]] = {"halving": Halving, "dominated": Dominated}

StudyPruner: TypeAlias = MultiObjectivePruner[FrozenTrial]


def rule_of(options: Pruner) -> Rule | None:
    """The rule that a definition names; None where every trial runs to its end."""
    return _RULES[options.kind](**options.options()) if options.kind in _RULES else None


class Judge:
    """Judges a trial after each of its epochs.

    Only what was sampled is stopped: a listed trial is wanted for itself, and its values are there to be compared with.
    Of several seeds the first is judged, since another one's early epochs say nothing new; the trial is stopped before
    the others are trained, or runs with all of them.

    Args:
        study: of the trial.
        trial: that runs.
        rule: of the study.
        objectives: keys of its metrics.

    Attributes:
        reason: why it is stopped at the epoch that was judged last; empty where it is not.
    """

    def __init__(
        self, study: optuna.Study, trial: optuna.Trial, rule: Rule | None, objectives: tuple[str, ...]
    ) -> None:
        self._trial, self._rule, self._objectives = trial, rule, objectives
        self._pruner: StudyPruner | None = None
        if rule is not None:
            self._pruner = MultiObjectivePruner(study, rule, attributes.RUNGS, ignore=_has_died)
        self._seeds = 0
        self.reason = ""

    def stops(self, epoch: EpochMetrics) -> bool:
        """Whether it is to end with this epoch."""
        self.reason = ""
        self._seeds += epoch.epoch == 1
        if self._pruner is None or self._seeds > 1:
            return False
        values = [epoch.metrics[key] for key in self._objectives]
        worse = self._pruner.should_stop(self._trial, epoch.epoch, values)
        if worse and attributes.LISTED not in self._trial.user_attrs:
            self.reason = f"{self._rule} at epoch {epoch.epoch}"
        return bool(self.reason)


def _has_died(trial: FrozenTrial) -> bool:
    """Whether it is running, and its process is not: nobody has given it up yet."""
    worker = trial.user_attrs.get(attributes.WORKER)
    return trial.state == TrialState.RUNNING and worker is not None and is_gone(worker)

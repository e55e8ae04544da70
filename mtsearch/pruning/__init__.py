"""Pruning of trials by several objectives at once, for any Optuna study; independent of the models that are trained."""

from mtsearch.pruning.layers import non_dominated_layers
from mtsearch.pruning.pruner import MultiObjectivePruner
from mtsearch.pruning.rules import ENOUGH, Dominated, Halving, Rule, Rung, Rungs

__all__ = ["ENOUGH", "Dominated", "Halving", "MultiObjectivePruner", "Rule", "Rung", "Rungs", "non_dominated_layers"]

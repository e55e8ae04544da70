"""Stopping trials early by several objectives at once: vectors, directions and rungs, nothing of what is trained."""

from mtsearch.pruning.layers import non_dominated_layers
from mtsearch.pruning.pruner import MultiObjectivePruner
from mtsearch.pruning.rules import ENOUGH, Dominated, Halving, Rule, Rung
from mtsearch.pruning.rungs import Rungs

__all__ = ["ENOUGH", "Dominated", "Halving", "MultiObjectivePruner", "Rule", "Rung", "Rungs", "non_dominated_layers"]

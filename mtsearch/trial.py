"""The seam between the search and whatever trains a model.

`search` knows only this protocol, so that its tests need no TensorFlow and a user's own trainer can take its place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mtsearch.config import TrialConfig


@dataclass(frozen=True)
class EpochMetrics:
    """What was measured at the end of one epoch.

    Attributes:
        epoch: 1-based.
        metrics: validation metrics by the keys of `objectives.METRICS`.
        losses: training losses of the epoch: `rating` (mean squared error per row), `retrieval` (per row); of a model
            of the user's own `total`, the mean over its steps.
        seconds: training and evaluation since the trial began.
        weights: of the two losses, `rating` and `retrieval`, where the trial balances them by itself.
    """

    epoch: int
    metrics: Mapping[str, float]
    losses: Mapping[str, float]
    seconds: float
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialResult:
    """What a trial came to.

    Attributes:
        metrics: validation metrics of `best_epoch`.
        curve: every finished epoch, in order.
        best_epoch: 1-based.
        parameters: number of trainable weights.
        seconds: wall clock by phase: `prepare` (make or reset the model, trace its graphs), `train`, `evaluate`.
        stopped: `on_epoch` returned False before the last epoch.
        repeats: metrics of each seed, where `metrics` are a mean over several.
        errors: standard errors of `metrics` by key, where the users that they are of were drawn from more; else empty.
    """

    metrics: Mapping[str, float]
    curve: tuple[EpochMetrics, ...]
    best_epoch: int
    parameters: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    stopped: bool = False
    repeats: tuple[Mapping[str, float], ...] = ()
    errors: Mapping[str, float] = field(default_factory=dict)


class Trainer(Protocol):
    """Trains one configuration on the split and the device that it was made with."""

    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        """Train `config` from scratch.

        Args:
            config: the model and its training; its seed alone determines every random draw.
            on_epoch: called after each epoch; False stops the trial.

        Raises:
            TrialFailure: for a reason of the model (non-finite numbers, out of memory).
        """
        ...

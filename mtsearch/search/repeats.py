"""One draw is no result: a trial as the mean over several seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median

from mtsearch.config import TrialConfig
from mtsearch.trial import EpochMetrics, Trainer, TrialResult


class RepeatedTrainer:
    """Trains a configuration with `repeats` seeds, its own and the ones after it, and reports the mean.

    Args:
        trainer: of one seed.
        repeats: K, at least 1.
    """

    def __init__(self, trainer: Trainer, repeats: int) -> None:
        self._trainer, self._repeats = trainer, repeats

    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        """See `mtsearch.trial.Trainer`; `on_epoch` hears of every seed's epochs, and may stop at any of them."""
        results: list[TrialResult] = []
        for seed in config.seeds(self._repeats):
            # One that is stopped at its last epoch is whole, and yet nothing may follow it.
            listener = _Listener(on_epoch)
            results.append(self._trainer.train(config.model_copy(update={"seed": seed}), listener))
            if results[-1].stopped:
                return results[-1]
            if listener.stopped and len(results) < self._repeats:
                return replace(results[-1], stopped=True)
        return results[0] if len(results) == 1 else _mean_result(results)


class _Listener:
    """`on_epoch`, and whether it has stopped the training."""

    def __init__(self, on_epoch: Callable[[EpochMetrics], bool]) -> None:
        self._on_epoch = on_epoch
        self.stopped = False

    def __call__(self, epoch: EpochMetrics) -> bool:
        go_on = self._on_epoch(epoch)
        self.stopped = not go_on
        return go_on


def _mean_result(results: Sequence[TrialResult]) -> TrialResult:
    longest = max(len(result.curve) for result in results)
    # With patience some seeds end earlier: of a later epoch it is the mean of those that came to it.
    curves = ([result.curve[epoch] for result in results if epoch < len(result.curve)] for epoch in range(longest))
    return replace(
        results[0],
        metrics=_mean([result.metrics for result in results]),
        curve=tuple(_mean_epoch(epochs) for epochs in curves),
        best_epoch=round(median(result.best_epoch for result in results)),
        seconds={name: sum(result.seconds[name] for result in results) for name in results[0].seconds},
        repeats=tuple(result.metrics for result in results),
        # Not smaller for the seeds: all of them were judged on the same users.
        errors=_mean([result.errors for result in results]),
    )


def _mean_epoch(epochs: Sequence[EpochMetrics]) -> EpochMetrics:
    return EpochMetrics(
        epochs[0].epoch,
        _mean([epoch.metrics for epoch in epochs]),
        _mean([epoch.losses for epoch in epochs]),
        sum(epoch.seconds for epoch in epochs),
        _mean([epoch.weights for epoch in epochs]),
    )


def _mean(mappings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: fmean(mapping[key] for mapping in mappings) for key in mappings[0]}

"""How a retrained model stands to what needs no search, and to the trial that it came from."""

from collections.abc import Iterator

from mtsearch.objectives import Metric, metrics_of
from mtsearch.report.references import against_best
from mtsearch.retraining.result import Retrained


def objectives_of(result: Retrained) -> list[Metric]:
    """Return the objectives that its study had."""
    metrics = metrics_of(result.feedback)
    return [metrics[key] for key in result.export.provenance.objectives if key in metrics]


def verdict(result: Retrained) -> Iterator[str]:
    """A line per objective, and one on how far the trial was repeated."""
    for metric in objectives_of(result):
        if metric.key in result.test:
            yield against_best(metric, result.test[metric.key].mean, result.baselines)
    if result.repeats_the_trial:
        yield _repeated(result)


def _repeated(result: Retrained) -> str:
    trial = result.export.provenance.metrics
    apart = [key for key, interval in result.validation.items() if interval.mean != trial.get(key)]
    if not apart:
        return "validation metrics: those of the trial, to the last bit"
    key = apart[0]
    change = f"{trial[key]:.6g} -> {result.validation[key].mean:.6g}" if key in trial else "not recorded there"
    return f"validation metrics: {len(apart)} of {len(result.validation)} differ from the trial's ({key}: {change})"

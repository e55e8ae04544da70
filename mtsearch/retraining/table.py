"""A retraining as a table: a line per metric."""

from collections.abc import Mapping

from rich.table import Table

from mtsearch.evaluation.interval import Interval
from mtsearch.objectives import metrics_of
from mtsearch.report.tables import as_text, bare_table, fixed, heading
from mtsearch.report.wording import count, listing
from mtsearch.retraining.result import Retrained
from mtsearch.retraining.verdict import objectives_of


def retrained_table(result: Retrained) -> Table:
    """Test metrics beside the trial's validation metrics and the baselines on test; the objectives come first."""
    objectives, metrics = objectives_of(result), metrics_of(result.feedback).values()
    columns = _columns(result)
    table = bare_table(f"Trained on {result.on}, {count(result.epochs, 'epoch')}, {count(len(result.seeds), 'seed')}")
    table.caption = as_text(" · ".join(_legend(result)))
    table.caption_justify = "left"
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(as_text(name), justify="right")
    for metric in [*objectives, *(metric for metric in metrics if metric not in objectives)]:
        cells = [column.get(metric.key, "") for column in columns.values()]
        if any(cells):
            table.add_row(*map(as_text, [heading(metric), *cells]), style="bold" if metric in objectives else None)
    return table


def _columns(result: Retrained) -> dict[str, dict[str, str]]:
    """What each column shows, by the key of the metric."""
    columns = {}
    if result.test:
        columns["test"] = _shown(result.test)
    if result.validation:
        columns["validation"] = _shown(result.validation)
    columns[f"trial {result.export.provenance.trial}"] = _plain(result.export.provenance.metrics)
    return columns | {name: _plain(metrics) for name, metrics in result.baselines.items()}


def _shown(metrics: Mapping[str, Interval]) -> dict[str, str]:
    return {key: _interval(interval) for key, interval in metrics.items()}


def _interval(interval: Interval) -> str:
    if len(interval.values) == 1:
        return fixed(interval.mean)
    return f"{fixed(interval.mean)} ±{fixed(interval.high - interval.mean)}"


def _plain(metrics: Mapping[str, float]) -> dict[str, str]:
    return {key: fixed(value) for key, value in metrics.items()}


def _legend(result: Retrained) -> list[str]:
    lines = ["↓ lower is better, ↑ higher", f"trial {result.export.provenance.trial}: its validation metrics"]
    if result.baselines:
        lines.append(f"{listing(list(result.baselines))}: on test, learnt from the same rows")
    if len(result.seeds) > 1:
        lines.append("±: half of the 95 % interval of the mean over seeds")
    return lines

"""The baselines that a study is measured against: the best of each objective, and whether the front beats it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtsearch.objectives import Metric
from mtsearch.report.wording import amount, at_once, count, listing, number, plain, shortened

if TYPE_CHECKING:
    from mtsearch.search.front import FrontRow
    from mtsearch.search.record import StudyRecord


@dataclass(frozen=True)
class Reference:
    """The best baseline of one objective.

    Attributes:
        index: of the objective, 0-based.
        metric: the objective.
        name: of the baseline.
        value: what it reaches.
        beaten: whether some trial of the front is better in this objective.
    """

    index: int
    metric: Metric
    name: str
    value: float
    beaten: bool

    @property
    def label(self) -> str:
        """`biases 0.942`."""
        return f"{shortened(plain(self.name), 24)} {number(self.value)}"


def references(record: StudyRecord) -> list[Reference]:
    """The best baseline of each objective, in the objectives' order; empty without baselines."""
    return [_reference(record, index) for index in range(len(record.objectives))] if record.baselines else []


def best_trials(record: StudyRecord) -> list[FrontRow]:
    """Return the front's best trial of each objective, of equals the first; nothing without a front."""
    if not record.front:
        return []
    return [min(record.front, key=lambda row: sign * row.values[index]) for index, sign in enumerate(record.signs)]


def best_name(baselines: Mapping[str, Mapping[str, float]], metric: Metric) -> str | None:
    """The baseline that is best in a metric, of equals the first; None where none has it."""
    having = [name for name, values in baselines.items() if metric.key in values]
    return min(having, key=lambda name: metric.sign * baselines[name][metric.key], default=None)


def against_best(metric: Metric, value: float, baselines: Mapping[str, Mapping[str, float]]) -> str:
    """`test RMSE 0.921 stars: beats biases (0.936 stars)`; without a baseline that has the metric the value alone."""
    reached = f"test {metric.label} {amount(value, metric)}"
    name = best_name(baselines, metric)
    if name is None:
        return reached
    reference = baselines[name][metric.key]
    beats = metric.sign * value < metric.sign * reference
    return f"{reached}: {'beats' if beats else 'does not beat'} {plain(name)} ({amount(reference, metric)})"


def verdict(record: StudyRecord) -> str:
    """One or two plain sentences: does the search beat what needs no search?"""
    if len(record.objectives) == 1:
        return _verdict_on_best(record)
    if not record.front:
        return f"No trial {lacking(record)}, so there is no front."
    if not record.baselines:
        return f"{count(len(record.front), 'trial')} on the front; no baselines are stored to compare with."
    if _unbeaten(record):
        return f"The front does not beat {listing(_unbeaten(record))}: no trial is better.{_advice(record)}"
    return f"The front beats the best baseline of each objective. {_knee_verdict(record)}".strip()


def lacking(record: StudyRecord) -> str:
    """What no trial of a study without a front does."""
    return "keeps the [constraints]" if record.infeasible else "has completed yet"


def _verdict_on_best(record: StudyRecord) -> str:
    """The verdict on a study of one objective, whose front is its best trial."""
    if not record.front:
        return f"No trial {lacking(record)}."
    if not record.baselines:
        return "No baselines are stored to compare the best trial with."
    if _unbeaten(record):
        return f"No trial is better than {listing(_unbeaten(record))}.{_advice(record)}"
    return f"The best trial is better than {listing([plain(name) for name in record.baselines])}."


def _unbeaten(record: StudyRecord) -> list[str]:
    """`biases in RMSE (0.942)` of each objective in which no trial beats the best baseline."""
    return [
        f"{plain(best.name)} in {best.metric.label} ({number(best.value)})"
        for best in references(record)
        if not best.beaten
    ]


def _advice(record: StudyRecord) -> str:
    """Advise to search longer where a baseline is not beaten; not against an ideal one, as in a small catalogue."""
    ideal = any(best.value == record.ideal[best.index] for best in references(record) if not best.beaten)
    return " A longer or wider search may be." if record.definition.get("space") and not ideal else ""


def _knee_verdict(record: StudyRecord) -> str:
    beaten = record.beaten_by(record.knee) if record.knee else []
    if not beaten:
        return ""
    return f"Its knee is better than {listing([plain(name) for name in beaten])}{at_once(record.objectives)}."


def _reference(record: StudyRecord, index: int) -> Reference:
    sign, metric = record.signs[index], record.objectives[index]
    name = min(record.baselines, key=lambda name: sign * record.baseline_values(name)[index])
    value = record.baseline_values(name)[index]
    beaten = any(sign * row.values[index] < sign * value for row in record.front)
    return Reference(index, metric, name, value, beaten)

"""What a plot of the front shows, as plain data: the points, the lines, and the part of each axis in view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtsearch.objectives import Metric
from mtsearch.report.progress import by_end
from mtsearch.report.references import Reference, lacking, references
from mtsearch.report.wording import count

if TYPE_CHECKING:
    from mtsearch.search.front import FrontRow
    from mtsearch.search.record import StudyRecord

Range = tuple[float, float]

SQUEEZE = 20.0
"""A point of the front, or a best baseline, farther out than this many times the bulk's width is left out of view."""

SHOW_ALL = "double click shows all"

MARGIN = 0.06
"""Free space on each side, as a share of the axis."""


@dataclass(frozen=True)
class BaselinePoint:
    """A baseline as a point in the space of the objectives.

    Attributes:
        name: of it.
        values: the objectives.
        inside: whether it is in view, of three and more objectives in some panel.
    """

    name: str
    values: tuple[float, ...]
    inside: bool


@dataclass(frozen=True)
class FrontView:
    """A study in the space of its objectives.

    Attributes:
        objectives: one axis each.
        front: the front's trials, by the first objective, best first.
        dominated: the other trials, by number.
        ended: all trials, in the order of their ends.
        knee: the front's knee.
        baselines: every baseline, `inside` or outside the view.
        lines: the best baseline of each objective, drawn across the plot.
        ranges: per objective what is in view, low to high; None where there is nothing to show.
        outside: trials out of view, of three and more objectives in some panel.
        outside_front: those of them that are on the front.
        spreads: how far the objectives of a trial may be off, by number, see `StudyRecord.spread`.
        spread_of: what that is; empty where no trial has any.
        lacking: what no trial does where the front is empty.
    """

    objectives: tuple[Metric, ...]
    front: tuple[FrontRow, ...]
    dominated: tuple[FrontRow, ...]
    ended: tuple[FrontRow, ...]
    knee: FrontRow | None
    baselines: tuple[BaselinePoint, ...]
    lines: tuple[Reference, ...]
    ranges: tuple[Range, ...] | None
    outside: int
    outside_front: int
    spreads: Mapping[int, tuple[float, ...]]
    spread_of: str
    lacking: str

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines that the figure says about itself: what it lacks, or leaves out of view; none where it shows all."""
        if not self.front:
            return (f"no trial {self.lacking}",)
        bars = (f"bars: {self.spread_of}",) if self.spreads else ()
        if not self.outside:
            return bars
        of_front = f", {self.outside_front} of the front" if self.outside_front else ""
        view = "the view" if len(self.objectives) <= 2 else "some panel"
        return (*bars, f"{count(self.outside, 'trial')} outside {view}{of_front}", SHOW_ALL)


def front_view(record: StudyRecord) -> FrontView:
    """What the plot of a study's front shows."""
    members = {row.trial for row in record.front}
    ranges = _ranges(record)
    outside = [row.trial for row in record.rows if _inside(row.values, ranges) < len(row.values)]
    values = {name: record.baseline_values(name) for name in record.baselines}
    shown = min(2, len(record.objectives))  # so many objectives in view are enough for one panel of a matrix
    return FrontView(
        objectives=record.objectives,
        front=tuple(record.front),
        dominated=tuple(row for row in record.rows if row.trial not in members),
        ended=tuple(by_end(record)),
        knee=record.knee,
        baselines=tuple(BaselinePoint(name, point, _inside(point, ranges) >= shown) for name, point in values.items()),
        lines=tuple(references(record)),
        ranges=ranges,
        outside=len(outside),
        outside_front=len(members.intersection(outside)),
        spreads={row.trial: spread for row in record.rows if (spread := record.spread(row.trial))},
        spread_of=record.spread_of,
        lacking=lacking(record),
    )


def axis_range(bulk: Sequence[float], anchors: Sequence[float], always: Sequence[float] = ()) -> Range:
    """The part of an axis that is in view.

    The bulk decides without its outliers (Tukey's fences: 1.5 interquartile ranges beyond the quartiles); the anchors
    widen it, unless they lie so far out that they would squeeze the bulk into a twentieth of the axis.

    Args:
        bulk: values that need not all be seen; at least one.
        anchors: values that should be.
        always: values that are, however far out.
    """
    values = np.asarray(bulk, dtype=float)
    lower, upper = np.quantile(values, [0.25, 0.75])
    fence = 1.5 * (upper - lower)
    kept = values[(values >= lower - fence) & (values <= upper + fence)]
    low, high = min([float(kept.min()), *always]), max([float(kept.max()), *always])
    reach = SQUEEZE * (high - low) or np.inf
    near = [value for value in anchors if low - reach <= value <= high + reach]
    return _padded(min([low, *near]), max([high, *near]))


def _ranges(record: StudyRecord) -> tuple[Range, ...] | None:
    if not record.rows and not record.baselines:
        return None
    return tuple(_range(record, index) for index in range(len(record.objectives)))


def _range(record: StudyRecord, index: int) -> Range:
    baselines = [record.baseline_values(name)[index] for name in record.baselines]
    bulk = [row.values[index] for row in record.rows] + baselines
    lines = [line.value for line in references(record) if line.index == index]
    return axis_range(bulk, [*_with_bars(record, index), *lines], [record.knee.values[index]] if record.knee else [])


def _with_bars(record: StudyRecord, index: int) -> list[float]:
    """The front's values of an objective, and where the bars around them end."""
    values = []
    for row in record.front:
        spreads = record.spread(row.trial)
        value, spread = row.values[index], spreads[index] if spreads else 0.0
        values += [value - spread, value, value + spread]
    return values


def _padded(low: float, high: float) -> Range:
    """With free space on both sides, around a single value too."""
    space = MARGIN * (high - low) or MARGIN * abs(high) or MARGIN
    return low - space, high + space


def _inside(values: tuple[float, ...], ranges: tuple[Range, ...] | None) -> int:
    """Count the objectives in which a point is in view."""
    return sum(low <= value <= high for value, (low, high) in zip(values, ranges, strict=True)) if ranges else 0

"""The plot of the front: its data, the figure, and the figure as a picture file."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from mtsearch.errors import MachineError
from mtsearch.files import write_atomically
from mtsearch.metrics import Metric
from mtsearch.report.plot_data import by_end, improvements
from mtsearch.report.plot_style import (
    BLUE,
    DASHES,
    GREEN,
    GREY,
    PLANE,
    VERMILION,
    Pair,
    axes_of,
    axis,
    layout,
    matrix_layout,
    pairs,
    text,
)
from mtsearch.report.tables import BestBaseline, best_baselines, reason_without_front
from mtsearch.text import axis_title, better, count, number

if TYPE_CHECKING:
    from mtsearch.search.pareto import FrontRow
    from mtsearch.search.results import StudyResults

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
        name: the baseline's name.
        values: its value of each objective.
        inside: true if the point is in view; with three or more objectives, in at least one panel.
    """

    name: str
    values: tuple[float, ...]
    inside: bool


@dataclass(frozen=True)
class FrontView:
    """Data of the plot of a study's front: trials, baselines, and the range of each axis.

    Attributes:
        objectives: one axis each.
        labels: of all metrics, by key.
        front: the front's trials, by the first objective, best first.
        dominated: the other trials, by number.
        ended: all trials, in the order of their ends.
        knee: the front's knee.
        baselines: every baseline, `inside` or outside the view.
        lines: the best baseline of each objective, drawn across the plot.
        ranges: visible range of each objective, low to high; None if there is nothing to show.
        outside: number of trials out of view; with three or more objectives, in at least one panel.
        outside_front: number of trials of the front among them.
        spreads: uncertainty of each objective by the number of the trial; see `StudyResults.spread`.
        spread_of: name of that uncertainty; empty if no trial has one.
        lacking: if the front is empty, the reason, as the end of a sentence "no trial ...".
    """

    objectives: tuple[Metric, ...]
    labels: Mapping[str, str]
    front: tuple[FrontRow, ...]
    dominated: tuple[FrontRow, ...]
    ended: tuple[FrontRow, ...]
    knee: FrontRow | None
    baselines: tuple[BaselinePoint, ...]
    lines: tuple[BestBaseline, ...]
    ranges: tuple[Range, ...] | None
    outside: int
    outside_front: int
    spreads: Mapping[int, tuple[float, ...]]
    spread_of: str
    lacking: str

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines of text below the title: an empty front, the meaning of the bars, trials outside the view."""
        if not self.front:
            return (f"no trial {self.lacking}",)
        bars = (f"bars: {self.spread_of}",) if self.spreads else ()
        if not self.outside:
            return bars
        of_front = f", {self.outside_front} of the front" if self.outside_front else ""
        view = "the view" if len(self.objectives) <= 2 else "some panel"
        return (*bars, f"{count(self.outside, 'trial')} outside {view}{of_front}", SHOW_ALL)


def front_view(results: StudyResults) -> FrontView:
    """Return the data of the plot of a study's front."""
    members = {row.trial for row in results.front}
    ranges = _ranges(results)
    outside = [row.trial for row in results.rows if _inside(row.values, ranges) < len(row.values)]
    values = {name: results.baseline_values(name) for name in results.baselines}
    shown = min(2, len(results.objectives))  # a point with two objectives in view is visible in a panel of a matrix
    return FrontView(
        objectives=results.objectives,
        labels={key: metric.label for key, metric in results.metrics.items()},
        front=tuple(results.front),
        dominated=tuple(row for row in results.rows if row.trial not in members),
        ended=tuple(by_end(results)),
        knee=results.knee,
        baselines=tuple(BaselinePoint(name, point, _inside(point, ranges) >= shown) for name, point in values.items()),
        lines=tuple(best_baselines(results)),
        ranges=ranges,
        outside=len(outside),
        outside_front=len(members.intersection(outside)),
        spreads={row.trial: spread for row in results.rows if (spread := results.spread(row.trial))},
        spread_of=results.spread_of,
        lacking=reason_without_front(results),
    )


def axis_range(bulk: Sequence[float], anchors: Sequence[float], always: Sequence[float] = ()) -> Range:
    """Return the visible range of an axis, chosen so that outliers do not squeeze most of the values.

    The bulk decides without its outliers (Tukey's fences: 1.5 interquartile ranges beyond the quartiles); the anchors
    widen it, unless they lie so far out that they would squeeze the bulk into a twentieth of the axis.

    Args:
        bulk: values that need not all be visible; at least one.
        anchors: values that should be visible.
        always: values that are always visible, however far out.
    """
    values = np.asarray(bulk, dtype=float)
    lower, upper = np.quantile(values, [0.25, 0.75])
    fence = 1.5 * (upper - lower)
    kept = values[(values >= lower - fence) & (values <= upper + fence)]
    low, high = min([float(kept.min()), *always]), max([float(kept.max()), *always])
    reach = SQUEEZE * (high - low) or np.inf
    near = [value for value in anchors if low - reach <= value <= high + reach]
    return _padded(min([low, *near]), max([high, *near]))


def _ranges(results: StudyResults) -> tuple[Range, ...] | None:
    """Return the visible range of each objective; None without trials and baselines."""
    if not results.rows and not results.baselines:
        return None
    return tuple(_range(results, index) for index in range(len(results.objectives)))


def _range(results: StudyResults, index: int) -> Range:
    key = results.objectives[index].key
    baselines = [values[key] for values in results.baselines.values() if key in values]
    bulk = [row.values[index] for row in results.rows] + baselines
    lines = [line.value for line in best_baselines(results) if line.index == index]
    return axis_range(bulk, [*_with_bars(results, index), *lines], [results.knee.values[index]] if results.knee else [])


def _with_bars(results: StudyResults, index: int) -> list[float]:
    """Return the front's values of an objective, and both ends of the bars around them."""
    values = []
    for row in results.front:
        spreads = results.spread(row.trial)
        value, spread = row.values[index], spreads[index] if spreads else 0.0
        values += [value - spread, value, value + spread]
    return values


def _padded(low: float, high: float) -> Range:
    """Return a range with free space on both sides, also around a single value."""
    space = MARGIN * (high - low) or MARGIN * abs(high) or MARGIN
    return low - space, high + space


def _inside(values: tuple[float, ...], ranges: tuple[Range, ...] | None) -> int:
    """Count the objectives in which a point is in view."""
    return sum(low <= value <= high for value, (low, high) in zip(values, ranges, strict=True)) if ranges else 0


BASELINE_SYMBOLS = ("x", "square", "triangle-up", "cross", "star", "pentagon")

_MARGIN = {"l": 64, "r": 16, "t": 48, "b": 120}

Axes = tuple[int | None, int]
"""The objectives on the horizontal and the vertical axis; None: the trials in the order of their ends."""

Frame = tuple[str, str]
"""Plotly's names of the width and the height of a plot or a panel, for shapes from edge to edge."""

_PAPER = ("paper", "paper")


def front_figure(results: StudyResults, *, still: bool = False, most: int | None = None) -> go.Figure:
    """Draw the front among all trials and baselines.

    Of two objectives it is a plane, of three and more a matrix with a panel per pair, and of a single one the best
    value so far over the trials.

    Args:
        results: of the study.
        still: say nothing of clicks.
        most: of the trials that are not on the front, draw so many of the latest; None: all.
    """
    view = front_view(results)
    if most is not None:
        view = replace(view, dominated=view.dominated[-most:])
    notes = [note for note in view.notes if not (still and note == SHOW_ALL)]
    draw = {1: _best_so_far, 2: _plane}.get(len(view.objectives), _matrix)
    return draw(view, notes)


def hover_text(row: FrontRow, view: FrontView) -> str:
    """Return the text of a trial's hover label in Plotly's markup: objectives, parameters, other metrics."""
    special = ", knee" if len(view.objectives) > 1 else ", best"
    title = f"trial {row.trial}" + (special if view.knee and row.trial == view.knee.trial else "")
    spreads = view.spreads.get(row.trial, (None,) * len(row.values))
    objectives = _lines({
        metric.label: number(value) if spread is None else f"{number(value)} ± {spread:.2g}"
        for metric, value, spread in zip(view.objectives, row.values, spreads, strict=True)
    })  # fmt: skip
    keys = [metric.key for metric in view.objectives]
    others = {view.labels.get(key, key): value for key, value in row.metrics.items() if key not in keys}
    groups = [[f"<b>{text(title)}</b>", *objectives], _lines(row.params), _lines(others)]
    return "<br> <br>".join("<br>".join(group) for group in groups if group)


def _plane(view: FrontView, notes: Sequence[str]) -> go.Figure:
    """Draw two objectives against each other; the front is a staircase."""
    # The staircase goes horizontally first: between two trials, the second objective keeps the value of the last one.
    line = {"shape": "hv", "width": 1.5, "color": BLUE}
    front = _front_trace(view, view.front, PLANE, mode="lines+markers", line=line)
    traces = [
        _trials_trace(view, view.dominated, PLANE),
        front,
        _knee_trace(view, PLANE),
        *_baseline_traces(view, PLANE),
    ]
    # NOTE: notes go into the horizontal title, the only place without points, labels or legend entries.
    x, y = _front_axis(view, 0, notes), _front_axis(view, 1)
    figure = go.Figure(traces, layout(x, y, margin=_MARGIN))
    for reference in view.lines:
        _draw_line(figure, reference, PLANE, _PAPER)
        _label_line(figure, reference, PLANE, _PAPER)
    return figure


def _matrix(view: FrontView, notes: Sequence[str]) -> go.Figure:
    """Draw three or more objectives, each pair in a panel; the projected front has no line."""
    titles = ["<br>".join([text(metric.axis), better(metric)]) for metric in view.objectives]
    figure = go.Figure(layout=matrix_layout(titles, view.ranges or [None] * len(titles), margin=_MARGIN))
    for pair in pairs(len(view.objectives)):
        x, y = axes_of(pair)
        frame = f"{x} domain", f"{y} domain"
        drawn = [
            _trials_trace(view, view.dominated, pair),
            _front_trace(view, view.front, pair, mode="markers"),
            _knee_trace(view, pair),
        ]
        for trace in [*drawn, *_baseline_traces(view, pair)]:
            in_legend = trace.showlegend and pair == PLANE  # only the first panel, PLANE, adds legend entries
            figure.add_trace(trace.update(legendgroup=trace.name, showlegend=in_legend, xaxis=x, yaxis=y))
        for line in (each for each in view.lines if each.index in pair):
            _draw_line(figure, line, pair, frame)
            # Label each line once: the diagonal panel is the uppermost of its column and the last of its row.
            if pair[1] == pair[0] + 1:
                _label_line(figure, line, pair, frame, **_placed(line, pair, view))
    # The corner above the triangle of panels is free and as wide as a panel, so the notes go there.
    lines = [f"<i>{text(line)}</i>" for note in notes for line in wrap(note, 28)]
    figure.add_annotation(text="<br>".join(lines), showarrow=False, align="right", xref="paper", yref="paper",
                          x=1, y=1, xanchor="right", yanchor="top")  # fmt: skip
    return figure


def _best_so_far(view: FrontView, notes: Sequence[str]) -> go.Figure:
    """Draw one objective over the trials in the order of their ends; baselines are lines."""
    over_trials: Axes = (None, 0)
    steps = improvements(view.ended, view.objectives[0].sign)
    improving = [row for _, row in steps]
    others = [row for row in (*view.dominated, *view.front) if row not in improving]
    stairs = go.Scatter(
        # The line goes from each improvement to the next, and from the last one to the end.
        x=[*(place for place, _ in steps), *([len(view.ended)] if steps else [])],
        y=[row.values[0] for row in [*improving, *improving[-1:]]],
        name="best so far",
        legendgroup="best so far",
        showlegend=False,
        mode="lines",
        line={"shape": "hv", "width": 1.5, "color": BLUE},
        hoverinfo="skip",
    )
    best = _front_trace(view, improving, over_trials, mode="markers").update(
        name="best so far", legendgroup="best so far"
    )
    knee = _knee_trace(view, over_trials).update(name="best trial")
    baselines = {point.name: point.values[0] for point in view.baselines}
    lines = baseline_lines(baselines, view.objectives[0], len(view.ended))
    for line, point in zip(lines, view.baselines, strict=True):
        line.update(showlegend=point.inside)
    traces = [_trials_trace(view, others, over_trials), stairs, best, knee, *lines]
    x = trials_axis(_noted("complete trials, in the order of their ends", notes), len(view.ended))
    figure = go.Figure(traces, layout(x, _front_axis(view, 0), margin=_MARGIN))
    for reference in view.lines:
        _label_line(figure, reference, over_trials, _PAPER)
    return figure


def _trials_trace(view: FrontView, rows: Sequence[FrontRow], axes: Axes) -> go.Scatter:
    marker = {"symbol": "circle-open", "size": 7, "color": GREY, "opacity": 0.75}
    bars = _bars(view, rows, axes, color="rgba(128,136,144,0.45)", thickness=1, width=0)
    return _points(view, rows, axes, name="trials", mode="markers", marker=marker, **bars)


def _front_trace(view: FrontView, rows: Sequence[FrontRow], axes: Axes, **style: Any) -> go.Scatter:
    marker = {"symbol": "circle", "size": 10, "color": BLUE}
    bars = _bars(view, rows, axes, color="rgba(0,114,178,0.6)", thickness=1.25, width=4)
    return _points(view, rows, axes, name="front", **style, marker=marker, **bars)


def _knee_trace(view: FrontView, axes: Axes) -> go.Scatter:
    """Return a diamond around the knee, which lets the pointer reach the front's own point."""
    rows = (view.knee,) if view.knee else ()
    marker = {"symbol": "diamond-open", "size": 19, "color": VERMILION, "line": {"width": 2.5}}
    knee = _points(view, rows, axes, name="knee", mode="markers", marker=marker)
    return knee.update(hoverinfo="skip", hovertext=None)


def _bars(view: FrontView, rows: Sequence[FrontRow], axes: Axes, **style: Any) -> dict[str, Any]:
    """Return error bars of one standard deviation or error per objective; nothing if no trial has a spread."""
    if not view.spreads:
        return {}
    spreads = [view.spreads.get(row.trial, (0.0,) * len(row.values)) for row in rows]
    return {
        f"error_{axis}": {"array": [each[index] for each in spreads], **style}
        for index, axis in zip(axes, "xy", strict=True)
        if index is not None
    }


def _points(view: FrontView, rows: Sequence[FrontRow], axes: Axes, **style: Any) -> go.Scatter:
    horizontal, vertical = axes
    if horizontal is None:
        places = {row.trial: place for place, row in enumerate(view.ended, start=1)}
        x: list[float] = [places[row.trial] for row in rows]
    else:
        x = [row.values[horizontal] for row in rows]
    return go.Scatter(
        x=x,
        y=[row.values[vertical] for row in rows],
        hovertext=[hover_text(row, view) for row in rows],
        hoverinfo="text",
        customdata=[row.trial for row in rows],
        showlegend=bool(rows),
        **style,
    )


def _baseline_traces(view: FrontView, pair: Pair) -> list[go.Scatter]:
    return [
        go.Scatter(
            x=[point.values[pair[0]]],
            y=[point.values[pair[1]]],
            name=text(point.name, 24),
            mode="markers",
            marker={"symbol": symbol, "size": 11, "color": GREEN},
            hovertext=[_baseline_text(point.name, view.objectives, point.values)],
            hoverinfo="text",
            showlegend=point.inside,
        )
        for point, symbol in zip(view.baselines, cycle(BASELINE_SYMBOLS), strict=False)
    ]


def trials_axis(title: str, trials: int) -> dict[str, Any]:
    """A horizontal axis that counts trials, in whole numbers."""
    return axis(title, range=[0, trials + 1], **({"dtick": 1} if trials < 10 else {}))


def baseline_lines(values: Mapping[str, float], metric: Metric, trials: int) -> list[go.Scatter]:
    """Return a line per baseline across a figure whose horizontal axis counts trials.

    Args:
        values: of the metric, by the baselines' names.
        metric: on the vertical axis.
        trials: so many; a line has points along it, which answer the pointer.
    """
    x = list(range(0, trials + 2, max(1, trials // 100)))
    return [
        go.Scatter(
            x=x,
            y=[value] * len(x),
            name=text(name, 24),
            mode="lines",
            line={"color": GREEN, "width": 1.25, "dash": dash},
            hovertext=_baseline_text(name, (metric,), (value,)),
            hoverinfo="text",
        )
        for (name, value), dash in zip(values.items(), cycle(DASHES[1:]), strict=False)
    ]


def _baseline_text(name: str, objectives: Sequence[Metric], values: Sequence[float]) -> str:
    said = {metric.label: value for metric, value in zip(objectives, values, strict=True) if not math.isnan(value)}
    return "<br>".join([f"<b>{text(name, 24)}</b>, baseline", *_lines(said)])


def _draw_line(figure: go.Figure, line: BestBaseline, axes: Axes, frame: Frame) -> None:
    """Draw a line across a plot or a panel at the best baseline's value."""
    x, y = axes_of(axes)
    style = {"line": {"color": GREEN, "width": 1.25, "dash": "dash"}, "layer": "below", "name": line.name}
    if line.index == axes[0]:
        figure.add_shape(type="line", xref=x, yref=frame[1], x0=line.value, x1=line.value, y0=0, y1=1, **style)
    else:
        figure.add_shape(type="line", xref=frame[0], yref=y, x0=0, x1=1, y0=line.value, y1=line.value, **style)


def _label_line(figure: go.Figure, line: BestBaseline, axes: Axes, frame: Frame, **changes: Any) -> None:
    """Write the label of a line above the plot or panel, or inside it at the right end, with `changes` to its style."""
    x, y = axes_of(axes)
    label = {"text": text(line.label), "showarrow": False, "yanchor": "bottom", "yshift": 6, "name": "line", **changes}
    if line.index == axes[0]:
        figure.add_annotation(xref=x, yref=frame[1], x=line.value, y=1, **label)
    else:
        figure.add_annotation(xref=frame[0], yref=y, x=1, y=line.value, xanchor="right", **label)


def _placed(line: BestBaseline, pair: Pair, view: FrontView) -> dict[str, Any]:
    """Place a label in a panel, which may be narrow: changes of the annotation.

    It stands on the wider side of an upright line, and below a level line that is near the upper edge.
    """
    low, high = view.ranges[line.index] if view.ranges else (0.0, 1.0)
    share = (line.value - low) / (high - low)
    if line.index == pair[0]:
        return {"xanchor": "left" if share < 0.5 else "right"}
    return {"yanchor": "top", "yshift": -6} if share > 0.85 else {}


def _front_axis(view: FrontView, index: int, notes: Sequence[str] = ()) -> dict[str, Any]:
    title = _noted(axis_title(view.objectives[index]), notes)
    return axis(title, range=view.ranges and list(view.ranges[index]))


def _noted(title: str, notes: Sequence[str]) -> str:
    return "<br>".join([text(title), *(f"<i>{text(note)}</i>" for note in notes)])


def _lines(values: Any) -> list[str]:
    return [f"{text(name, 60)}: {text(number(value), 40)}" for name, value in values.items()]


INK = "#1b1f24"
_WIDTH, _HEIGHT = 1200, 760  # pixels; the height is used if the figure has none, and a PNG has twice as many pixels


def write_picture(results: StudyResults, place: Path) -> Path:
    """Write the figure of the front on white as a picture file, whole or not at all, and return its path.

    Args:
        results: of the study.
        place: the file; its ending, .png or .svg, says as what.

    Raises:
        MachineError: Kaleido or a Chrome is missing, the ending is another, or the file cannot be written.
    """
    kind = place.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise MachineError(f"{place} is no picture", "let its name end in .png or .svg")
    if importlib.util.find_spec("kaleido") is None:
        raise MachineError("pictures need kaleido", "pip install 'mtsearch[images]'")
    figure = front_figure(results, still=True)
    figure.update_layout(paper_bgcolor="white", plot_bgcolor="white", font_color=INK)
    write_atomically(place, _drawn(figure, figure.layout.height or _HEIGHT, kind))
    return place


def _drawn(figure: object, height: int, kind: str) -> bytes:
    from choreographer.errors import BrowserFailedError, ChromeNotFoundError
    from plotly.io import to_image

    remedy = "install Chrome or Chromium, or name one in BROWSER_PATH"
    try:
        picture: bytes = to_image(figure, format=kind, width=_WIDTH, height=height, scale=2 if kind == "png" else 1)
    except (ChromeNotFoundError, BrowserFailedError) as error:
        raise MachineError(f"pictures need Chrome: {str(error).splitlines()[0]}", remedy) from None
    except RuntimeError as error:  # Plotly raises it if Kaleido has found no Chrome
        if "Chrome" not in str(error):
            raise
        raise MachineError("pictures need Chrome, and none was found", remedy) from None
    return picture

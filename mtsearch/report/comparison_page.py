"""Studies side by side as one self-contained page."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from mtsearch.report.comparison import Compared, Comparison, difference_rows
from mtsearch.report.comparison_table import comparison_lines
from mtsearch.report.drawing import DASHES, GREEN, PALETTE, SYMBOLS, axis, layout, rounded, text
from mtsearch.report.front_view import axis_range
from mtsearch.report.html_document import Source, document, write_document
from mtsearch.report.markup import Html, join, row, section, table, tag
from mtsearch.report.page_plots import figure
from mtsearch.report.progress import Step
from mtsearch.report.wording import axis_title, listing, number, plain

_NOTHING_TO_CLICK = '{"trials":[],"colours":[],"knee":null}'


def write_comparison(compared: Comparison, place: Path, plotlyjs: Source = "inline") -> Path:
    """Write the page, whole or not at all, and say where it is; see `write_page`.

    Raises:
        MachineError: it cannot be written.
    """
    return write_document(comparison_page(compared, plotlyjs), place)


def comparison_page(compared: Comparison, plotlyjs: Source = "inline") -> str:
    """The page; all text that came from users or files is escaped."""
    title = listing([plain(name) for name in compared.names])
    aims = " and ".join(axis_title(metric) for metric in compared.objectives)
    warning = tag("p", compared.warning, class_="verdict trouble") if compared.warning else Html()
    body = join((
        tag("header", tag("h1", title), tag("p", aims)),
        warning,
        section("Fronts", figure(fronts_figure(compared), "The fronts of all studies"), id_="fronts"),
        section("Side by side", _table(compared), id_="sides"),
        _progress(compared),
        _differences(compared),
    ))  # fmt: skip
    return document(title, body, _NOTHING_TO_CLICK, plotlyjs)


def fronts_figure(compared: Comparison) -> go.Figure:
    """The fronts over each other; each study has its colour, its dashes and its symbol."""
    traces = [
        _front(each, compared, color, dash, symbol) for each, (color, dash, symbol) in _styled(compared)
    ] + _baselines(compared)  # fmt: skip
    axes = [axis(text(axis_title(m)), range=_range(compared, index)) for index, m in enumerate(compared.objectives)]
    return go.Figure(traces, layout(axes[0], axes[1]))


def _range(compared: Comparison, index: int) -> list[float] | None:
    """What is in view of an objective: every study's knee, and of the fronts what does not squeeze the rest."""
    records = [each.record for each in compared.studies]
    points = [row.values[index] for record in records for row in record.front]
    knees = [record.knee.values[index] for record in records if record.knee]
    return list(axis_range(points, points, knees)) if points else None


def progress_figure(compared: Comparison, over: str) -> go.Figure:
    """The hypervolumes as the studies went on.

    Args:
        compared: the studies.
        over: `trials` or `minutes`.
    """
    traces = [
        go.Scatter(
            x=_places(each.progress, over),
            y=rounded([step.volume for step in each.progress]),
            customdata=[step.trial for step in each.progress],
            name=text(each.record.name, 30),
            mode="lines",
            line={"shape": "hv", "color": color, "dash": dash, "width": 2},
            hovertemplate="after trial %{customdata}: %{y:.4f}<extra>" + text(each.record.name, 30) + "</extra>",
        )
        for each, (color, dash, _) in _styled(compared)
    ]
    title = {
        "trials": "complete trials, in the order of their ends",
        "minutes": "wall clock while trials ran (minutes)",
    }
    x = axis(title[over], rangemode="tozero")
    return go.Figure(traces, layout(x, axis("hypervolume (share of the box)", rangemode="tozero"), showlegend=True))


def _places(progress: list[Step], over: str) -> list[Any]:
    return list(range(1, len(progress) + 1)) if over == "trials" else rounded([step.minutes for step in progress])


def _styled(compared: Comparison) -> list[tuple[Compared, tuple[str, str, str]]]:
    styles = zip(cycle(PALETTE), cycle(DASHES), cycle(SYMBOLS), strict=False)
    return list(zip(compared.studies, styles, strict=False))


def _front(each: Compared, compared: Comparison, color: str, dash: str, symbol: str) -> go.Scatter:
    front, name = each.record.front, text(each.record.name, 30)
    values = [
        "<br>".join([f"<b>{name}</b>, trial {row.trial}"]
                    + [f"{text(m.label)}: {number(v)}" for m, v in zip(compared.objectives, row.values, strict=True)]
                    + [f"{text(key, 24)}: {text(number(value), 40)}" for key, value in row.params.items()])
        for row in front
    ]  # fmt: skip
    return go.Scatter(
        x=[row.values[0] for row in front],
        y=[row.values[1] for row in front],
        name=name,
        mode="lines+markers",
        line={"shape": "hv", "color": color, "dash": dash, "width": 1.5},
        marker={"symbol": symbol, "size": 9, "color": color},
        hovertext=values,
        hoverinfo="text",
        showlegend=True,
    )


def _baselines(compared: Comparison) -> list[go.Scatter]:
    """Those of the first study, where they are everyone's."""
    record = compared.studies[0].record
    if not compared.same_data or not record.baselines:
        return []
    points = {name: record.baseline_values(name) for name in record.baselines}
    return [
        go.Scatter(
            x=[point[0] for point in points.values()],
            y=[point[1] for point in points.values()],
            name="baselines",
            mode="markers",
            marker={"symbol": "x", "size": 10, "color": GREEN},
            hovertext=[text(name, 30) for name in points],
            hoverinfo="text",
        )
    ]


def _table(compared: Comparison) -> Html:
    rows = [row(plain(title), cells) for title, cells in comparison_lines(compared)]
    return table(["", *map(plain, compared.names)], rows)


def _progress(compared: Comparison) -> Html:
    if not any(each.progress for each in compared.studies):
        return Html()
    drawn = [figure(progress_figure(compared, over), f"Hypervolume over {over}") for over in ("trials", "minutes")]
    return section("Hypervolume over trials and over wall clock", tag("div", *drawn, class_="pair"), id_="progress")


def _differences(compared: Comparison) -> Html:
    rows = [row(plain(name), [what, plain(line)]) for name, what, line in difference_rows(compared)]
    title = f"What differs from {plain(compared.names[0])}"
    if not rows:
        return section(title, tag("p", "Nothing: definitions and passports are the same."), id_="failures")
    return section(title, table(["", "where", "first -> this study"], rows), id_="failures")

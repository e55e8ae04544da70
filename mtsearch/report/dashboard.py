"""What optuna-dashboard shows of a study: our note in Markdown and our figures, small enough for its database."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from mtsearch.report.commands import command
from mtsearch.report.drawing import pairs
from mtsearch.report.figures import front_figure
from mtsearch.report.graphs import curve_figure, hypervolume_figure
from mtsearch.report.progress import by_end, improvements
from mtsearch.report.references import best_trials, verdict
from mtsearch.report.wording import aims, box, count, front_title, number, plain, shortened
from mtsearch.search.publishing import Publication

if TYPE_CHECKING:
    from mtsearch.search.front import FrontRow
    from mtsearch.search.record import StudyRecord

MOST_TRIALS = 200
"""Dominated trials of the front's figure, the latest ones, in all panels: every 2 KB are a transaction of their own."""

MOST_EPOCHS = 1000
"""Of all curves of a figure together."""

_PUNCTUATION = str.maketrans({char: f"\\{char}" for char in string.punctuation})


def publication(record: StudyRecord, storage: str | None = None) -> Publication:
    """The note and the figures of a study as it stands.

    Args:
        record: of the study.
        storage: for the commands in the note, as people may see it; None: the default one.
    """
    drawn: dict[str, tuple[str, go.Figure | None]] = {
        "front-with-baselines": (
            f"{front_title(record.objectives)} and baselines",
            front_figure(_reduced(record), most=MOST_TRIALS),
        ),
    }
    if len(record.objectives) > 1:  # of one objective the first figure shows it
        drawn["hypervolume"] = ("Hypervolume over trials", hypervolume_figure(record))
    for index, metric in enumerate(record.objectives):
        title = f"Learning curves: {metric.label}"
        drawn[f"curves-{metric.key}"] = (title, curve_figure(record, index, MOST_EPOCHS))
    figures = {name: _framed(figure, title) for name, (title, figure) in drawn.items() if figure}
    return Publication(note(record, storage), figures)


def note(record: StudyRecord, storage: str | None = None) -> str:
    """What the study is, its best points, the baselines, and what to type next; text of others is never markup."""
    lines = [
        f"# {_escaped(record.name)}",
        f"Searches for {_escaped(aims(record.objectives))}: {count(record.counting, 'trial')} so far.",
        _escaped(verdict(record)),
        f"Hypervolume {number(record.hypervolume)} of {box(record.objectives)}.",
    ]
    parts = ["\n\n".join(lines), _best(record), _baselines(record), _next(record, storage)]
    return "\n\n".join(part for part in parts if part)


def _best(record: StudyRecord) -> str:
    if not record.front:
        return ""
    named = [(f"best {metric.label}", row)
             for metric, row in zip(record.objectives, best_trials(record), strict=True)]  # fmt: skip
    knee = [("knee", record.knee)] if record.knee and len(record.objectives) > 1 else []
    points = [*knee, *named]
    heads = ["", "trial", *(metric.axis for metric in record.objectives), "parameters"]
    title = "Best points" if len(record.objectives) > 1 else "Best trial"
    return _table(title, heads, [_point(what, row) for what, row in points])


def _point(what: str, row: FrontRow) -> list[str]:
    params = ", ".join(f"{plain(name)} {number(value)}" for name, value in row.params.items())
    return [what, str(row.trial), *map(number, row.values), shortened(params, 400)]


def _baselines(record: StudyRecord) -> str:
    rows = [[name, *map(number, record.baseline_values(name))] for name in record.baselines]
    return _table("Baselines", ["", *(metric.axis for metric in record.objectives)], rows) if rows else ""


def _next(record: StudyRecord, storage: str | None) -> str:
    pick = "knee" if len(record.objectives) > 1 else record.objectives[0].key
    commands = [
        command("front", record.name, storage),
        command("plot", record.name, storage),
        command("export", record.name, storage, "--pick", pick, "-o", "best.toml"),
    ]
    # Tildes, since a name may hold backticks; indented by nothing that a line of ours could begin with.
    return "\n".join(["## Next", "", "~~~~", *map(plain, commands), "~~~~"])


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["-"] * len(heads), *rows]
    cells = [[cell if index == 1 else _escaped(cell) for cell in line] for index, line in enumerate(lines)]
    return "\n".join([f"## {title}", "", *(f"| {' | '.join(line)} |" for line in cells)])


def _escaped(text: str) -> str:
    """One line of plain text as Markdown: every mark that could mean something has a backslash."""
    return plain(text).translate(_PUNCTUATION)


def _reduced(record: StudyRecord) -> StudyRecord:
    """With the front and the latest of the other trials, without what only fills their labels."""
    panels = max(1, len(pairs(len(record.objectives))))
    front = {row.trial for row in record.front}
    if len(record.objectives) == 1:
        # Each trial has its place among all: none is left out here.
        front |= {row.trial for _, row in improvements(by_end(record), record.signs[0])}
        kept = {row.trial for row in record.rows}
    else:
        others = [row.trial for row in record.rows if row.trial not in front]
        kept = front.union(others[-(MOST_TRIALS // panels) :])
    # Each panel has all labels.
    labelled = front if panels == 1 or panels * len(front) <= MOST_TRIALS else set()
    rows = [
        replace(row, metrics={}, params=row.params if row.trial in labelled else {})
        for row in record.rows
        if row.trial in kept
    ]
    return replace(record, rows=tuple(rows))


def _framed(figure: go.Figure, title: str) -> go.Figure:
    """The figure with a title, and a height unless it has one: the dashboard gives neither."""
    heading = {"text": title, "x": 0.01, "xanchor": "left", "yref": "container", "y": 0.98, "yanchor": "top"}
    return figure.update_layout(height=figure.layout.height or 500, title=heading, margin_t=84)

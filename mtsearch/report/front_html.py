"""The front beside the baselines as an HTML table, for the page and for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mtsearch.report.markup import Html, join, row, table, tag
from mtsearch.report.tables import (
    TableRow,
    fixed,
    heading,
    param_names,
    params_shown,
    spread_legend,
    spreads_shown,
    table_rows,
)
from mtsearch.report.wording import plain

if TYPE_CHECKING:
    from mtsearch.search.record import StudyRecord


def front_html(record: StudyRecord) -> Html:
    """A line per trial of the front and per baseline, each spread in a column of its own; empty where there is none."""
    rows, names = table_rows(record), param_names(record)
    if not rows:
        return Html()
    objectives = _beside(map(heading, record.objectives), ["±"] * len(record.objectives), record)
    headings = ["", *objectives, *map(plain, names), ""]
    legend = (tag("p", line) for line in spread_legend(record))
    return join((table(headings, [_row(each, record, names) for each in rows]), *legend))


def _row(shown: TableRow, record: StudyRecord, names: Sequence[str]) -> Html:
    values = _beside(map(fixed, shown.values), spreads_shown(shown), record)
    cells = [*values, *params_shown(shown, names), shown.note]
    return row(plain(shown.name), cells, "baseline" if shown.is_baseline else shown.note)


def _beside(values: Iterable[str], spreads: Sequence[str], record: StudyRecord) -> list[str]:
    """Each value with its spread, the latter only where some trial has one."""
    pairs = zip(values, spreads, strict=True)
    return [text for value, spread in pairs for text in ([value, spread] if record.spread_of else [value])]

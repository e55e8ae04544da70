"""The front in rows: for JSON, for CSV, and as a table beside the baselines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from mtsearch.objectives import METRICS, Metric
from mtsearch.report.references import Reference, best_name, references
from mtsearch.report.wording import front_name, number, plain

if TYPE_CHECKING:
    from mtsearch.search.record import StudyRecord


@dataclass(frozen=True)
class TableRow:
    """A trial of the front, or a baseline.

    Attributes:
        name: `trial 17`, or the baseline's name.
        values: the objectives.
        spread: of a trial, see `StudyRecord.spread`; None for a baseline.
        params: what was searched; empty for a baseline.
        note: what is special about it: `knee`, `best RMSE`.
        is_baseline: whether it needed no search.
    """

    name: str
    values: tuple[float, ...]
    spread: tuple[float, ...] | None
    params: Mapping[str, Any]
    note: str
    is_baseline: bool


def front_rows(record: StudyRecord) -> list[dict[str, Any]]:
    """The front for JSON: `trial`, the objectives by their keys, `params` and `metrics`; in the front's order.

    What `spreads` has of a trial follows.
    """
    keys = [metric.key for metric in record.objectives]
    return [
        {
            "trial": row.trial,
            **dict(zip(keys, row.values, strict=True)),
            "params": dict(row.params),
            "metrics": dict(row.metrics),
            **spreads(record, row.trial),
        }
        for row in record.front
    ]


def spreads(record: StudyRecord, trial: int) -> dict[str, Any]:
    """For JSON, by the metrics' keys: `repeats`, what each seed of a trial reached, and its `standard_errors`.

    Without the first where it was not repeated, without the second where all users were judged.
    """
    seeds, errors = record.repeats.get(trial), record.standard_errors.get(trial)
    repeats = {"repeats": [dict(metrics) for metrics in seeds]} if seeds else {}
    return {**repeats, **({"standard_errors": dict(errors)} if errors else {})}


def spread_columns(record: StudyRecord, trial: int) -> dict[str, float]:
    """For CSV, of each metric: `standard_deviation_KEY` over a trial's seeds, and `standard_error_KEY`."""
    seeds, errors = record.repeats.get(trial, ()), record.standard_errors.get(trial, {})
    keys = seeds[0] if len(seeds) > 1 else ()
    deviations = {f"standard_deviation_{key}": stdev(metrics[key] for metrics in seeds) for key in keys}
    return deviations | {f"standard_error_{key}": error for key, error in errors.items()}


def front_csv(record: StudyRecord) -> str:
    """The front as RFC 4180 text with a header: trial, objectives, then each parameter and each other metric.

    Behind all stands what `spread_columns` has.
    """
    objectives = [metric.key for metric in record.objectives]
    params = param_names(record)
    others = [key for key in _names(row.metrics for row in record.front) if key not in objectives]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    columns = {row.trial: spread_columns(record, row.trial) for row in record.front}
    spread = _names(columns.values())
    writer.writerow(["trial", *objectives, *params, *others, *spread])
    for row in record.front:
        values = [row.params.get(name) for name in params] + [row.metrics.get(key) for key in others]
        writer.writerow([row.trial, *row.values, *values, *map(columns[row.trial].get, spread)])
    return text.getvalue()


def param_names(record: StudyRecord) -> list[str]:
    """What the front's trials searched, in the order of first appearance."""
    return _names(row.params for row in record.front)


def table_rows(record: StudyRecord) -> list[TableRow]:
    """The front, then the baselines, as a table shows them."""
    # With one objective every member of the front is as good, so that none is special.
    knee = record.knee.trial if record.knee and len(record.objectives) > 1 else None
    trials = [
        TableRow(
            name=f"trial {row.trial}",
            values=row.values,
            spread=record.spread(row.trial),
            params=row.params,
            note="knee" if row.trial == knee else "",
            is_baseline=False,
        )
        for row in record.front
    ]
    best = references(record)
    return trials + [
        TableRow(
            name=name,
            values=record.baseline_values(name),
            spread=None,
            params={},
            note=", ".join(_best_baseline(record, line) for line in best if line.name == name),
            is_baseline=True,
        )
        for name in record.baselines
    ]


def _best_baseline(record: StudyRecord, line: Reference) -> str:
    return f"best {line.metric.label}" if len(record.objectives) > 1 else "best baseline"


def front_table(record: StudyRecord) -> Table:
    """The front beside the baselines, for the terminal; 80 columns hold four parameters, of four objectives three."""
    several = len(record.objectives) > 1
    table = bare_table(f"{record.name}: {front_name(record.objectives, len(record.front))}")
    legend = ["◆ knee", "* best baseline of its column"] if several else ["* best baseline"]
    table.caption = as_text(" · ".join([*legend, *spread_legend(record)]))
    table.caption_justify = "left"
    if len(record.objectives) > 2:
        table.padding = 0
    names, rows = param_names(record), table_rows(record)
    cells = [_cells(row, names, record) for row in rows]
    table.add_column("", no_wrap=True)
    for index, title in enumerate([*map(heading, record.objectives), *map(plain, names)], start=1):
        folded = title.replace("_", "_\n")  # where a long name may break
        if len(record.objectives) > 2:
            folded = folded.replace("@", "@\n")
        # On a narrow terminal headings are folded, and cells between words; a number or a word never is.
        widest = max(map(len, [word for text in (folded, *(line[index] for line in cells)) for word in text.split()]))
        # What has a spread behind it lines up on the left.
        side: JustifyMethod = "left" if index <= len(record.objectives) and record.spread_of else "right"
        table.add_column(Text(folded), justify=side, min_width=min(widest, 12), overflow="fold")
    for number_of, (row, line) in enumerate(zip(rows, cells, strict=True), start=1):
        last = number_of == len(record.front)
        table.add_row(*map(as_text, line), style="bold" if row.note == "knee" else None, end_section=last)
    return table


def _cells(row: TableRow, names: Sequence[str], record: StudyRecord) -> list[str]:
    best = {(line.name, line.index) for line in references(record)} if row.is_baseline else set()
    marks = ["*" if (row.name, index) in best else "" for index in range(len(row.values))]
    if record.spread_of:
        pairs = zip(row.values, marks, spreads_shown(row), strict=True)
        values = [f"{fixed(value)}{mark} {spread}".rstrip() for value, mark, spread in pairs]
    else:
        values = [mark + fixed(value) for value, mark in zip(row.values, marks, strict=True)]
    return [f"{row.name} ◆" if row.note == "knee" else row.name, *values, *params_shown(row, names)]


def baseline_table(
    baselines: Mapping[str, Mapping[str, float]], objectives: Sequence[str], metrics: Mapping[str, Metric] = METRICS
) -> Table:
    """Every metric of the baselines, the objectives first; a line per metric, with the name of the best."""
    table = bare_table("Baselines: what needs no search")
    table.caption = as_text("↓ lower is better   ↑ higher is better")
    table.caption_justify = "left"
    table.add_column("", no_wrap=True)
    for name in baselines:
        table.add_column(as_text(name), justify="right", overflow="fold")
    table.add_column("best", overflow="fold")
    keys = _names([dict.fromkeys(objectives), *baselines.values()])
    for metric in (metrics[key] for key in keys if key in metrics):
        values = [_maybe_fixed(stored.get(metric.key)) for stored in baselines.values()]
        cells = [heading(metric), *values, best_name(baselines, metric) or ""]
        table.add_row(*map(as_text, cells), style="bold" if metric.key in objectives else None)
    return table


def fixed(value: float) -> str:
    """Four decimals, so that the points of a column stand below each other."""
    return f"{value:.4f}"


def heading(metric: Metric) -> str:
    """A column's heading: the metric, its unit, and an arrow the way that is better."""
    return f"{metric.axis}\u00a0{'↓' if metric.direction == 'minimize' else '↑'}"


def spreads_shown(row: TableRow) -> list[str]:
    """`±0.0201` for each objective, empty where there is none."""
    return [""] * len(row.values) if row.spread is None else [f"±{fixed(spread)}" for spread in row.spread]


def spread_legend(record: StudyRecord) -> list[str]:
    """What the figures behind `±` are; empty where there are none."""
    if not record.spread_of:
        return []
    return [f"mean ± {record.spread_of}" if record.seeds > 1 else f"± {record.spread_of}"]


def params_shown(row: TableRow, names: Sequence[str]) -> list[str]:
    """The row's parameters in the order of `names`, empty where it has none."""
    return [number(row.params[name]) if name in row.params else "" for name in names]


def _maybe_fixed(value: float | None) -> str:
    return "" if value is None else fixed(value)


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def bare_table(title: str) -> Table:
    """A table without columns yet, as all of them look."""
    return Table(
        title=as_text(title),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title_justify="left",
        title_style="bold",
    )


def as_text(text: str) -> Text:
    """Shown as it is: a plain string would be read as Rich's markup."""
    return Text(plain(text))

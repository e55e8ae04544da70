"""The front and the baselines as rows, JSON, CSV, tables for the terminal, and a verdict in words."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, stdev
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from mtsearch.evaluation.baselines import best_baseline
from mtsearch.metrics import Metric, find_metric
from mtsearch.search.space import initial_label
from mtsearch.text import at_once, count, front_name, listing, number, plain, shorten

if TYPE_CHECKING:
    from mtsearch.search.pareto import FrontRow
    from mtsearch.search.results import StudyResults
    from mtsearch.study_file.definition import StudyDefinition


@dataclass(frozen=True)
class BestBaseline:
    """The best baseline of one objective.

    Attributes:
        index: number of the objective, 0-based.
        metric: the objective's metric.
        name: the baseline's name.
        value: the baseline's value.
        beaten: true if a trial of the front is better in this objective.
    """

    index: int
    metric: Metric
    name: str
    value: float
    beaten: bool

    @property
    def label(self) -> str:
        """Name of the baseline and its value, such as `biases 0.942`."""
        return f"{shorten(plain(self.name), 24)} {number(self.value)}"


def best_baselines(results: StudyResults) -> list[BestBaseline]:
    """Return the best baseline of each objective, in the objectives' order; empty without baselines."""
    found = (_best_baseline(results, index) for index in range(len(results.objectives)))
    return [best for best in found if best]


def best_trials(results: StudyResults) -> list[FrontRow]:
    """Return the best trial of the front for each objective, the first of equal ones; empty without a front."""
    if not results.front:
        return []
    return [min(results.front, key=lambda row: sign * row.values[index]) for index, sign in enumerate(results.signs)]


def verdict(results: StudyResults) -> str:
    """Return one or two sentences that say whether the search beats the baselines."""
    if len(results.objectives) == 1:
        return _verdict_on_best(results)
    if not results.front:
        return f"No trial {reason_without_front(results)}, so there is no front."
    if not results.baselines:
        return f"{count(len(results.front), 'trial')} on the front; the study has no baselines to compare them with."
    if _unbeaten(results):
        return f"The front does not beat {listing(_unbeaten(results))}: no trial is better.{_advice(results)}"
    return f"The front beats the best baseline of each objective. {_knee_verdict(results)}".strip()


def reason_without_front(results: StudyResults) -> str:
    """Return the end of a sentence "no trial ..." that explains why a study has no front."""
    return "keeps the [constraints]" if results.infeasible else "has completed yet"


def _verdict_on_best(results: StudyResults) -> str:
    """Return the verdict on a study of one objective, whose front is its best trial."""
    if not results.front:
        return f"No trial {reason_without_front(results)}."
    if not results.baselines:
        return "The study has no baselines to compare the best trial with."
    if _unbeaten(results):
        return f"No trial is better than {listing(_unbeaten(results))}.{_advice(results)}"
    return f"The best trial is better than {listing([plain(name) for name in results.baselines])}."


def _unbeaten(results: StudyResults) -> list[str]:
    """Return texts such as `biases in RMSE (0.942)` for each objective whose best baseline no trial beats."""
    return [
        f"{plain(best.name)} in {best.metric.label} ({number(best.value)})"
        for best in best_baselines(results)
        if not best.beaten
    ]


def _advice(results: StudyResults) -> str:
    """Return advice for a study that does not beat a baseline; empty if the baseline has the ideal value."""
    ideal = any(best.value == results.ideal[best.index] for best in best_baselines(results) if not best.beaten)
    return " A longer or wider search may find a better trial." if results.definition.get("space") and not ideal else ""


def _knee_verdict(results: StudyResults) -> str:
    beaten = results.beaten_by(results.knee) if results.knee else []
    if not beaten:
        return ""
    return f"Its knee is better than {listing([plain(name) for name in beaten])}{at_once(results.objectives)}."


def _best_baseline(results: StudyResults, index: int) -> BestBaseline | None:
    sign, metric = results.signs[index], results.objectives[index]
    name = best_baseline(results.baselines, metric)
    if name is None:
        return None
    value = results.baselines[name][metric.key]
    beaten = any(sign * row.values[index] < sign * value for row in results.front)
    return BestBaseline(index, metric, name, value, beaten)


@dataclass(frozen=True)
class TableRow:
    """A row of a table: a trial of the front, or a baseline.

    Attributes:
        name: `trial 17`, or the baseline's name.
        values: value of each objective; NaN if a baseline does not have it.
        spread: uncertainty of a trial's values, see `StudyResults.spread`; None for a baseline.
        params: the searched parameters; empty for a baseline.
        note: a remark such as `knee` or `best RMSE`.
        is_baseline: true for a baseline.
    """

    name: str
    values: tuple[float, ...]
    spread: tuple[float, ...] | None
    params: Mapping[str, Any]
    note: str
    is_baseline: bool


def front_rows(results: StudyResults) -> list[dict[str, Any]]:
    """Return the front for JSON: `trial`, the objectives by key, `params`, `metrics`, and the values of `spreads`."""
    keys = [metric.key for metric in results.objectives]
    return [
        {
            "trial": row.trial,
            **dict(zip(keys, row.values, strict=True)),
            "params": dict(row.params),
            "metrics": dict(row.metrics),
            **spreads(results, row.trial),
        }
        for row in results.front
    ]


def spreads(results: StudyResults, trial: int) -> dict[str, Any]:
    """Return the spreads of a trial for JSON: values of each seed (`repeats`) and `standard_errors`, by metric.

    `repeats` is left out if the trial was not repeated, `standard_errors` if all users were evaluated.
    """
    seeds, errors = results.repeats.get(trial), results.standard_errors.get(trial)
    repeats = {"repeats": [dict(metrics) for metrics in seeds]} if seeds else {}
    return {**repeats, **({"standard_errors": dict(errors)} if errors else {})}


def spread_columns(results: StudyResults, trial: int) -> dict[str, float]:
    """Return the spreads of a trial for CSV: `standard_deviation_KEY` and `standard_error_KEY` of each metric."""
    seeds, errors = results.repeats.get(trial, ()), results.standard_errors.get(trial, {})
    keys = seeds[0] if len(seeds) > 1 else ()
    deviations = {f"standard_deviation_{key}": stdev(metrics[key] for metrics in seeds) for key in keys}
    return deviations | {f"standard_error_{key}": error for key, error in errors.items()}


def front_csv(results: StudyResults) -> str:
    """Return the front as CSV text (RFC 4180): trial, objectives, parameters, other metrics, spreads."""
    objectives = [metric.key for metric in results.objectives]
    params = param_names(results)
    others = [key for key in _names(row.metrics for row in results.front) if key not in objectives]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    columns = {row.trial: spread_columns(results, row.trial) for row in results.front}
    spread = _names(columns.values())
    writer.writerow(["trial", *objectives, *params, *others, *spread])
    for row in results.front:
        values = [row.params.get(name) for name in params] + [row.metrics.get(key) for key in others]
        writer.writerow([row.trial, *row.values, *values, *map(columns[row.trial].get, spread)])
    return text.getvalue()


def param_names(results: StudyResults) -> list[str]:
    """Return the names of the front's searched parameters, in the order of first appearance."""
    return _names(row.params for row in results.front)


def table_rows(results: StudyResults) -> list[TableRow]:
    """Return the rows of a table: the front, then the baselines."""
    # With one objective all trials of the front are equally good, so no row gets a note.
    knee = results.knee.trial if results.knee and len(results.objectives) > 1 else None
    trials = [
        TableRow(
            name=f"trial {row.trial}",
            values=row.values,
            spread=results.spread(row.trial),
            params=row.params,
            note="knee" if row.trial == knee else "",
            is_baseline=False,
        )
        for row in results.front
    ]
    best = best_baselines(results)
    return trials + [
        TableRow(
            name=name,
            values=results.baseline_values(name),
            spread=None,
            params={},
            note=", ".join(_baseline_note(results, line) for line in best if line.name == name),
            is_baseline=True,
        )
        for name in results.baselines
    ]


def _baseline_note(results: StudyResults, line: BestBaseline) -> str:
    return f"best {line.metric.label}" if len(results.objectives) > 1 else "best baseline"


def front_table(results: StudyResults) -> Table:
    """Return a table of the front and the baselines for the terminal; 80 columns hold at least three parameters."""
    several = len(results.objectives) > 1
    table = bare_table(f"{results.name}: {front_name(results.objectives, len(results.front))}")
    legend = ["◆ knee", "* best baseline of its column"] if several else ["* best baseline"]
    table.caption = as_text(" · ".join([*legend, *spread_legend(results)]))
    table.caption_justify = "left"
    if len(results.objectives) > 2:
        table.padding = 0
    names, rows = param_names(results), table_rows(results)
    cells = [_cells(row, names, results) for row in rows]
    table.add_column("", no_wrap=True)
    for index, title in enumerate([*map(heading, results.objectives), *map(plain, names)], start=1):
        folded = breakable(title)
        if len(results.objectives) > 2:
            folded = folded.replace("@", "@\n")
        # On a narrow terminal headings and cells are folded between words; no number or word is broken.
        widest = max(map(len, [word for text in (folded, *(line[index] for line in cells)) for word in text.split()]))
        # Values followed by a spread are aligned on the left.
        side: JustifyMethod = "left" if index <= len(results.objectives) and results.spread_of else "right"
        table.add_column(Text(folded), justify=side, min_width=min(widest, 12), overflow="fold")
    for number_of, (row, line) in enumerate(zip(rows, cells, strict=True), start=1):
        last = number_of == len(results.front)
        table.add_row(*map(as_text, line), style="bold" if row.note == "knee" else None, end_section=last)
    return table


def _cells(row: TableRow, names: Sequence[str], results: StudyResults) -> list[str]:
    best = {(line.name, line.index) for line in best_baselines(results)} if row.is_baseline else set()
    marks = ["*" if (row.name, index) in best else "" for index in range(len(row.values))]
    if results.spread_of:
        pairs = zip(row.values, marks, spread_cells(row), strict=True)
        values = [f"{four_decimals(value)}{mark} {spread}".rstrip() for value, mark, spread in pairs]
    else:
        values = [mark + four_decimals(value) for value, mark in zip(row.values, marks, strict=True)]
    return [f"{row.name} ◆" if row.note == "knee" else row.name, *values, *param_cells(row, names)]


def baseline_table(
    baselines: Mapping[str, Mapping[str, float]], objectives: Sequence[str], metrics: Mapping[str, Metric]
) -> Table:
    """Return a table of all metrics of the baselines, the objectives first, with the best baseline of each."""
    table = bare_table("Baselines")
    table.caption = as_text("↓ lower is better   ↑ higher is better")
    table.caption_justify = "left"
    # On a narrow terminal the names of the metrics are folded between words; those of the baselines at underscores.
    table.add_column("")
    names = [breakable(plain(name)) for name in baselines]
    widths = [max(map(len, name.split())) for name in names]
    for name, width in zip(names, widths, strict=True):
        table.add_column(Text(name), justify="right", min_width=min(width, 12), overflow="fold")
    table.add_column("best", min_width=min(max(widths, default=0), 12), overflow="fold")
    keys = _names([dict.fromkeys(objectives), *baselines.values()])
    for metric in (metrics[key] for key in keys if key in metrics):
        values = [four_decimals(stored.get(metric.key, math.nan)) for stored in baselines.values()]
        best = Text(breakable(plain(best_baseline(baselines, metric) or "")))
        cells = [as_text(cell) for cell in (heading(metric), *values)]
        table.add_row(*cells, best, style="bold" if metric.key in objectives else None)
    return table


def four_decimals(value: float) -> str:
    """Return a number with four decimals, so that the points of a column stand below each other; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.4f}"


def breakable(name: str) -> str:
    """Return a heading with line breaks after underscores and dots, where a long name may be broken."""
    return re.sub(r"(?<=\w[_.])(?=\w)", "\n", name)


def heading(metric: Metric) -> str:
    """Return a column's heading: the metric, its unit, and an arrow for the better direction."""
    return f"{metric.axis}\u00a0{'↓' if metric.direction == 'minimize' else '↑'}"


def spread_cells(row: TableRow) -> list[str]:
    """Return a text such as `±0.0201` for each objective, empty without a spread."""
    return [""] * len(row.values) if row.spread is None else [f"±{four_decimals(spread)}" for spread in row.spread]


def spread_legend(results: StudyResults) -> list[str]:
    """Return the explanation of the numbers after `±`; empty if there are none."""
    if not results.spread_of:
        return []
    return [f"mean ± {results.spread_of}" if results.seeds > 1 else f"± {results.spread_of}"]


def param_cells(row: TableRow, names: Sequence[str]) -> list[str]:
    """Return a row's parameters in the order of `names`, each empty if the row does not have it."""
    return [number(row.params[name]) if name in row.params else "" for name in names]


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def bare_table(title: str) -> Table:
    """Return an empty table in the common style, without columns."""
    return Table(
        title=as_text(title),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title_justify="left",
        title_style="bold",
    )


def as_text(text: str) -> Text:
    """Return a string as text that Rich does not read as markup."""
    return Text(plain(text))


def published_table(results: StudyResults, definition: StudyDefinition) -> Table:
    """Return a table of measured and published values, a line per initial trial."""
    table = Table(title=f"measured / published ({definition.study.repeats} seeds: median)", title_justify="left")
    table.add_column("trial", justify="right")
    # The study file may name a metric without its task.
    entries = [
        {find_metric(name, results.metrics): value for name, value in entry.items()} for entry in definition.published
    ]
    metrics = [metric for metric in results.objectives if metric.key in entries[0]]
    for metric in metrics:
        table.add_column(metric.axis, justify="right")
    rows = {results.initial.get(row.trial): row for row in results.rows}
    for index, published in enumerate(entries):
        row = rows.get(initial_label(index))
        if row is not None:
            seeds = results.repeats.get(row.trial, [row.metrics])
            cells = [f"{median(seed[m.key] for seed in seeds):.3f} / {published[m.key]:.3f}" for m in metrics]
            table.add_row(str(row.trial), *cells)
    return table

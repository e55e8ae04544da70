"""The page of a study: a self-contained HTML document with its sections and the data of its script.

A section is a function from the results to HTML, empty where there is nothing to say; `SECTIONS` is their order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from mtsearch.metrics import Metric
from mtsearch.report.front_plot import front_figure
from mtsearch.report.html import (
    Html,
    Source,
    card,
    definitions,
    document,
    figure_div,
    front_html,
    join,
    row,
    section,
    table,
    tag,
    write_document,
)
from mtsearch.report.plot_data import curves, dimensions
from mtsearch.report.plot_style import rounded
from mtsearch.report.plots import (
    curve_figure,
    hypervolume_figure,
    importance_figure,
    parallel_figure,
    parameter_figures,
    time_figure,
)
from mtsearch.report.tables import best_baselines, best_trials, verdict
from mtsearch.report.test_report import report_section
from mtsearch.search.results import FEWEST_FOR_IMPORTANCE
from mtsearch.text import (
    aims,
    axis_title,
    box,
    count,
    front_name,
    front_title,
    listing,
    number,
    plain,
    shell_command,
    states,
)

if TYPE_CHECKING:
    from mtsearch.search.pareto import FrontRow
    from mtsearch.search.results import StudyResults


def matrix_or_plot(drawn: go.Figure, label: str, objectives: Sequence[Metric]) -> Html:
    """Return the element for a figure of fronts; a matrix of three or more objectives may scroll sideways."""
    if len(objectives) <= 2:
        return figure_div(drawn, label)
    return _scrolling(figure_div(drawn, label, "free"), 120 + 210 * (len(objectives) - 1))


def _scrolling(content: Html, width: int) -> Html:
    """Return content of a least width in pixels that scrolls sideways on a narrower screen."""
    return tag("div", tag("div", content, style=f"min-width: {width}px"), class_="wide", tabindex="0")


def front_plot_section(results: StudyResults) -> Html:
    """Return the section with the figure of the front and a hint on its use."""
    title, label = "Pareto front", "Pareto front of all trials"
    if len(results.objectives) == 1:
        title, label = "Best so far", "The best trial so far, among all trials"
    drawn = matrix_or_plot(front_figure(results), label, results.objectives)
    if not results.rows:
        return section(title, drawn, id_="front")
    return section(title, _colours(results), drawn, _panel(), id_="front")


def hypervolume_section(results: StudyResults) -> Html:
    """Return the section with the hypervolume over the trials; empty for a single objective."""
    drawn = hypervolume_figure(results)
    if drawn is None or len(results.objectives) == 1:
        return Html()
    return section("Hypervolume over trials", figure_div(drawn, "Hypervolume after each trial"), id_="hypervolume")


def curves_section(results: StudyResults) -> Html:
    """Return the section of learning curves: a figure per objective, a line per trial."""
    drawn = [(metric.label, curve_figure(results, index)) for index, metric in enumerate(results.objectives)]
    shown = [figure_div(each, f"{label} over the epochs of every trial") for label, each in drawn if each is not None]
    return section("Learning curves", tag("div", *shown, class_="pair"), id_="curves") if shown else Html()


def parameters_section(results: StudyResults) -> Html:
    """Return the section on the parameters: their importance, and their values in the good trials."""
    lines = parallel_figure(results)
    if lines is None:
        return Html()
    # 104 px per parameter are enough for the longest names.
    width = 104 * (len(dimensions(results)) + len(results.objectives))
    wide = _scrolling(figure_div(lines, "Every trial through its parameters"), width)
    pairs = [figure_div(each, label, "small") for label, each in parameter_figures(results)]
    which = "each" if len(results.objectives) > 1 else "the"
    return join((
        section("Parallel coordinates", wide, id_="parallel"),
        section("Importance of the parameters", _importance(results), id_="importance"),
        section(f"Each parameter against {which} objective", tag("div", *pairs, class_="pair"), id_="parameters"),
    ))  # fmt: skip


def time_section(results: StudyResults) -> Html:
    """Return the section on the time that the trials took."""
    drawn = time_figure(results)
    return section("Time per trial", figure_div(drawn, "Seconds of each trial"), id_="time") if drawn else Html()


def _colours(results: StudyResults) -> Html:
    options = [tag("option", plain(each.name), value=str(at)) for at, each in enumerate(dimensions(results))]
    if not options:
        return Html()
    none = tag("option", f"{front_title(results.objectives).lower()} and other trials", value="")
    choice = tag("select", none, *options, id="colour")
    return tag("p", tag("label", "Colour by ", choice), class_="choice")


def _panel() -> Html:
    """Return the empty panel in which the script shows the trial that was clicked."""
    copied = tag("button", "Copy", id="copy", type="button")
    return tag(
        "div",
        tag("p", "Click a point for its learning curve and its command.", class_="hint"),
        tag("h3", id="trial-name"),
        tag("p", id="trial-params"),
        tag("div", class_="pair", id="trial-curves"),
        tag("p", tag("code", id="trial-command"), copied, class_="command"),
        id="trial",
        aria_live="polite",
        hidden="",
    )


def _importance(results: StudyResults) -> Html:
    drawn = importance_figure(results)
    if drawn is not None:
        said = tag(
            "p",
            "How much each parameter decides whether a trial is among the best 10 %, or the best five (PED-ANOVA).",
            class_="hint",
        )
        return join((said, figure_div(drawn, "Importance of each parameter for each objective", "free")))
    if len(results.rows) < FEWEST_FOR_IMPORTANCE:
        return tag(
            "p",
            f"Not computed: it needs {FEWEST_FOR_IMPORTANCE} complete trials, and there are {len(results.rows)}.",
            class_="hint",
        )
    return tag("p", "Not computed: no parameter differs between the best trials and the others.", class_="hint")


def page_data(results: StudyResults, storage: str | None) -> str:
    """Return the data of the page's script as JSON; arrays of trials are in the order of `trials`.

    Args:
        results: the study's results.
        storage: name of the storage for the commands; see `page`.
    """
    trials = [row.trial for row in results.rows]
    shown = {
        "command": [shell_command("export", results.name, storage), "-o best.toml"],
        "objectives": [{"label": metric.label, "title": axis_title(metric)} for metric in results.objectives],
        "trials": trials,
        "values": [rounded([row.values[index] for row in results.rows]) for index in range(len(results.objectives))],
        "params": _columns(results),
        "colours": [
            {
                "name": plain(each.name),
                "log": each.log,
                "choices": [plain(number(choice)) for choice in each.choices],
                "values": _numbers(each.values, each.choices, trials),
            }
            for each in dimensions(results)
        ],
        "curves": {
            trial: [curve.epochs, *(rounded(values) for values in curve.values)]
            for trial, curve in curves(results).items()
        },
        "knee": results.knee.trial if results.knee else None,
    }
    return json.dumps(shown, separators=(",", ":"), allow_nan=False)


def _columns(results: StudyResults) -> list[dict[str, Any]]:
    """Return every parameter of the trials as text, including those with only one value."""
    names = dict.fromkeys(name for row in results.rows for name in row.params)
    return [
        {
            "name": plain(name),
            "values": [number(row.params[name]) if name in row.params else None for row in results.rows],
        }
        for name in names
    ]


def _numbers(values: Any, choices: tuple[Any, ...], trials: list[int]) -> list[Any]:
    found = [values.get(trial) for trial in trials]
    return [None if value is None else choices.index(value) for value in found] if choices else rounded(found)


OPEN_FAILURES = 10
"""Greatest number of failures that are shown unfolded."""


def page(results: StudyResults, storage: str | None = None, plotlyjs: Source = "inline") -> str:
    """Return the study's page as HTML; all text from users or files is escaped.

    Args:
        results: the study's results, with importances if the page shall show them.
        storage: name of the storage for the commands on the page, with its secrets hidden; None: the default one.
        plotlyjs: `inline` puts all of plotly.js into the page; `cdn` loads it from Plotly's server.
    """
    body = join(part(results) for part in SECTIONS)
    return document(plain(results.name), body, page_data(results, storage), plotlyjs)


def write_page(results: StudyResults, place: Path, storage: str | None = None, plotlyjs: Source = "inline") -> Path:
    """Write the study's page, whole or not at all, and return its path.

    Args:
        results, storage, plotlyjs: see `page`.
        place: a file if the name ends in .html and is no folder; else a folder, which gets an `index.html`.

    Raises:
        MachineError: the folder cannot be made or the file written.
    """
    return write_document(page(results, storage, plotlyjs), place)


def header_section(results: StudyResults) -> Html:
    """Return the header with the name of the study, its objectives, and the time of its trials."""
    when = _period(results)
    said = aims(results.objectives) + (f" · {when}" if when else "")
    return tag("header", tag("h1", plain(results.name)), tag("p", said))


def headlines_section(results: StudyResults) -> Html:
    """Return the section with the most important numbers and the comparison with the baselines."""
    cards = [_trials_card(results), _hypervolume_card(results), *_best_cards(results), *_baseline_cards(results)]
    trouble = not results.front or any(not best.beaten for best in best_baselines(results))
    text = tag("p", verdict(results), class_="verdict trouble" if trouble else "verdict")
    return tag("section", text, _knee_card(results), tag("div", *cards, class_="cards"), id="headlines")


def front_section(results: StudyResults) -> Html:
    """Return the section with the front and the baselines as a table."""
    listed = front_html(results)
    title = f"{front_name(results.objectives, len(results.front)).capitalize()} beside the baselines"
    return section(title, listed, id_="table") if listed else listed


def failures_section(results: StudyResults) -> Html:
    """Return the section with the failed trials and their reasons."""
    if not results.failures:
        return Html()
    rows = [
        row(f"trial {failure.trial}", [plain(failure.reason), "yes" if failure.counted else "no"])
        for failure in results.failures
    ]
    listed = table(["", "reason", "counts"], rows)
    if len(rows) > OPEN_FAILURES:
        listed = tag("details", tag("summary", count(len(rows), "failed trial")), listed)
    return section("Failures", listed, id_="failures")


def provenance_section(results: StudyResults) -> Html:
    """Return the section with the definition, data, versions and machine that the numbers depend on."""
    groups = [("Provenance", results.provenance), ("Definition", results.definition)]
    shown = [join((tag("h3", title), definitions(_flat(values)))) for title, values in groups if values]
    summary = tag("summary", "Provenance: what these numbers depend on")
    return tag("section", tag("details", summary, *shown), id="provenance") if shown else Html()


SECTIONS = (
    header_section,
    headlines_section,
    front_plot_section,
    front_section,
    report_section,
    hypervolume_section,
    curves_section,
    parameters_section,
    time_section,
    failures_section,
    provenance_section,
)


def _trials_card(results: StudyResults) -> Html:
    return card("trials that count", f"{results.counting:,}", tag("p", states(results.states)))


def _hypervolume_card(results: StudyResults) -> Html:
    if results.reference is None:
        return card("hypervolume", "–", tag("p", "not measured: the study has no baselines"))
    return card("hypervolume", number(results.hypervolume), tag("p", f"of {box(results.objectives)}"))


def _knee_card(results: StudyResults) -> Html:
    if results.knee is None:
        return Html()
    params = definitions((plain(name), number(value)) for name, value in results.knee.params.items())
    what = "knee" if len(results.objectives) > 1 else "best"
    return tag(
        "div", card(f"{what}: trial {results.knee.trial}", _values_text(results, results.knee), params), class_="knee"
    )


def _best_cards(results: StudyResults) -> list[Html]:
    """Return a card with the best trial of each objective; none for a single objective, which has a wide card."""
    if len(results.objectives) == 1:
        return []
    return [
        card(
            f"best {metric.label}",
            number(best.values[index]),
            tag("p", f"trial {best.trial}: {_values_text(results, best)}"),
        )
        for index, (metric, best) in enumerate(zip(results.objectives, best_trials(results), strict=False))
    ]


def _baseline_cards(results: StudyResults) -> list[Html]:
    return [
        card(f"best baseline, {best.metric.label}", number(best.value),
             tag("p", f"{plain(best.name)}, {'beaten' if best.beaten else 'not beaten'}"))
        for best in best_baselines(results)
    ]  # fmt: skip


def _values_text(results: StudyResults, trial: FrontRow) -> str:
    return listing([f"{m.label} {number(value)}" for m, value in zip(results.objectives, trial.values, strict=True)])


def _period(results: StudyResults) -> str:
    ends = [moment.isoformat(" ", "minutes") for moment in (results.begun, results.ended) if moment]
    return " to ".join(dict.fromkeys(ends))


def _flat(values: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Return nested tables as pairs of `table.key` and value."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            pairs += _flat(value, f"{path}{key}.")
        else:
            pairs.append((plain(f"{path}{key}"), plain(value if isinstance(value, str) else _json(value))))
    return pairs


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)

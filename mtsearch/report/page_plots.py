"""The page's parts that hold figures: each a function from the record to HTML, empty where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from mtsearch.objectives import Metric
from mtsearch.report.figures import front_figure
from mtsearch.report.graphs import (
    curve_figure,
    hypervolume_figure,
    importance_figure,
    parallel_figure,
    parameter_figures,
    time_figure,
)
from mtsearch.report.markup import Html, join, packed, section, tag
from mtsearch.report.parameters_view import dimensions
from mtsearch.report.wording import front_title, plain
from mtsearch.search.importance import FEWEST

if TYPE_CHECKING:
    from mtsearch.search.record import StudyRecord


def figure(drawn: go.Figure, label: str, class_: str = "") -> Html:
    """A place for a Plotly figure, which the page's script draws."""
    data = packed(drawn.to_json())
    kind = f"figure {class_}".strip()
    return tag("div", tag("div", class_="plot", role="group", aria_label=plain(label)), data, class_=kind)


def matrix_or_plot(drawn: go.Figure, label: str, objectives: Sequence[Metric]) -> Html:
    """A place for a figure of fronts; of three and more objectives it is a matrix, as wide as its panels need."""
    if len(objectives) <= 2:
        return figure(drawn, label)
    return _scrolling(figure(drawn, label, "free"), 120 + 210 * (len(objectives) - 1))


def _scrolling(content: Html, width: int) -> Html:
    """Content of so many pixels at least, which on a narrower screen scrolls sideways by itself."""
    return tag("div", tag("div", content, style=f"min-width: {width}px"), class_="wide", tabindex="0")


def front_plot(record: StudyRecord) -> Html:
    """The figure of the front, with what can be done to it."""
    title, label = "Pareto front", "Pareto front of all trials"
    if len(record.objectives) == 1:
        title, label = "Best so far", "The best trial so far, among all trials"
    drawn = matrix_or_plot(front_figure(record), label, record.objectives)
    if not record.rows:
        return section(title, drawn, id_="front")
    return section(title, _colours(record), drawn, _panel(), id_="front")


def hypervolume_plot(record: StudyRecord) -> Html:
    """How the front grew; of one objective the figure of the best so far shows it."""
    drawn = hypervolume_figure(record)
    if drawn is None or len(record.objectives) == 1:
        return Html()
    return section("Hypervolume over trials", figure(drawn, "Hypervolume after each trial"), id_="hypervolume")


def curve_plots(record: StudyRecord) -> Html:
    """An objective per figure, a line per trial."""
    drawn = [(metric.label, curve_figure(record, index)) for index, metric in enumerate(record.objectives)]
    shown = [figure(each, f"{label} over the epochs of every trial") for label, each in drawn if each is not None]
    return section("Learning curves", tag("div", *shown, class_="pair"), id_="curves") if shown else Html()


def parameter_plots(record: StudyRecord) -> Html:
    """What each parameter decides, and where in it the good trials lie."""
    lines = parallel_figure(record)
    if lines is None:
        return Html()
    # 104 px hold the longest names.
    width = 104 * (len(dimensions(record)) + len(record.objectives))
    wide = _scrolling(figure(lines, "Every trial through its parameters"), width)
    pairs = [figure(each, label, "small") for label, each in parameter_figures(record)]
    which = "each" if len(record.objectives) > 1 else "the"
    return join((
        section("Parallel coordinates", wide, id_="parallel"),
        section("Importance of the parameters", _importance(record), id_="importance"),
        section(f"Each parameter against {which} objective", tag("div", *pairs, class_="pair"), id_="parameters"),
    ))  # fmt: skip


def time_plot(record: StudyRecord) -> Html:
    """What the trials spent their time on."""
    drawn = time_figure(record)
    return section("Time per trial", figure(drawn, "Seconds of each trial"), id_="time") if drawn else Html()


def _colours(record: StudyRecord) -> Html:
    options = [tag("option", plain(each.name), value=str(at)) for at, each in enumerate(dimensions(record))]
    if not options:
        return Html()
    none = tag("option", f"{front_title(record.objectives).lower()} and other trials", value="")
    choice = tag("select", none, *options, id="colour")
    return tag("p", tag("label", "Colour by ", choice), class_="choice")


def _panel() -> Html:
    """Filled by the script with the trial that was clicked."""
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


def _importance(record: StudyRecord) -> Html:
    drawn = importance_figure(record)
    if drawn is not None:
        said = tag(
            "p",
            "How much each parameter decides whether a trial is among the best tenth, or five (PED-ANOVA).",
            class_="hint",
        )
        return join((said, figure(drawn, "Importance of each parameter for each objective", "free")))
    if len(record.rows) < FEWEST:
        return tag(
            "p", f"Not computed: it takes {FEWEST} complete trials, and there are {len(record.rows)}.", class_="hint"
        )
    return tag("p", "Not computed: no parameter tells the best trials from the others.", class_="hint")

"""The page's parts that hold figures: each a function from the record to HTML, empty where there is nothing to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

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
from mtsearch.report.wording import plain
from mtsearch.search.importance import FEWEST

if TYPE_CHECKING:
    from mtsearch.search.record import StudyRecord


def figure(drawn: go.Figure, label: str, class_: str = "") -> Html:
    """A place for a Plotly figure, which the page's script draws."""
    data = packed(drawn.to_json())
    kind = f"figure {class_}".strip()
    return tag("div", tag("div", class_="plot", role="group", aria_label=plain(label)), data, class_=kind)


def front_plot(record: StudyRecord) -> Html:
    """The figure of the front, with what can be done to it."""
    drawn = figure(front_figure(record), "Pareto front of all trials")
    if not record.rows:
        return section("Pareto front", drawn, id_="front")
    return section("Pareto front", _colours(record), drawn, _panel(), id_="front")


def hypervolume_plot(record: StudyRecord) -> Html:
    """How the front grew."""
    drawn = hypervolume_figure(record)
    if drawn is None:
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
    # 104 px hold the longest names; on a narrow screen the lines scroll sideways by themselves.
    width = f"min-width: {104 * (len(dimensions(record)) + 2)}px"
    wide = tag(
        "div", tag("div", figure(lines, "Every trial through its parameters"), style=width), class_="wide", tabindex="0"
    )
    pairs = [figure(each, label, "small") for label, each in parameter_figures(record)]
    return join((
        section("Parallel coordinates", wide, id_="parallel"),
        section("Importance of the parameters", _importance(record), id_="importance"),
        section("Each parameter against each objective", tag("div", *pairs, class_="pair"), id_="parameters"),
    ))  # fmt: skip


def time_plot(record: StudyRecord) -> Html:
    """What the trials spent their time on."""
    drawn = time_figure(record)
    return section("Time per trial", figure(drawn, "Seconds of each trial"), id_="time") if drawn else Html()


def _colours(record: StudyRecord) -> Html:
    options = [tag("option", plain(each.name), value=str(at)) for at, each in enumerate(dimensions(record))]
    if not options:
        return Html()
    choice = tag("select", tag("option", "front and other trials", value=""), *options, id="colour")
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

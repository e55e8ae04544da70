"""A study as one self-contained HTML document: it needs no network and no other file.

A section is a function from the record to HTML, empty where there is nothing to say; `SECTIONS` is their order.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from mtsearch.errors import MachineError
from mtsearch.report.figures import figure_json, front_figure, plotly_js
from mtsearch.report.markup import Html, card, definitions, join, row, section, table, tag
from mtsearch.report.references import references, verdict
from mtsearch.report.tables import TableRow, fixed, heading, param_names, params_shown, table_rows
from mtsearch.report.wording import axis_title, count, listing, number, plain

if TYPE_CHECKING:
    from mtsearch.search.front import FrontRow
    from mtsearch.search.record import StudyRecord

OPEN_FAILURES = 10
"""More failures than this are folded away."""

STATES = {"fail": "failed"}
"""Optuna's words, where they do not read as English."""


def page(record: StudyRecord) -> str:
    """The study's page; all text that came from users or files is escaped."""
    plotly, script = plotly_js(), _resource("page.js")
    return Template(_resource("page.html")).substitute(
        policy=html.escape(_policy(plotly, script)),
        title=html.escape(plain(record.name)),
        body=join(part(record) for part in SECTIONS),
        plotly=plotly,
        script=script,
    )


def write_page(record: StudyRecord, folder: Path) -> Path:
    """Write the page to `index.html` in the folder, whole or not at all.

    Raises:
        MachineError: the folder cannot be made or written.
    """
    target = folder / "index.html"
    aside = folder / f".index.{os.getpid()}.html"
    text = page(record).encode("utf-8", "replace")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_bytes(text)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        problem = f"cannot write {target}: {error.strerror or error}"
        raise MachineError(problem, "name a folder that can be written with -o") from error
    return target


def header(record: StudyRecord) -> Html:
    """The study's name, what it optimises, when it ran."""
    aims = " and ".join(axis_title(metric) for metric in record.objectives)
    when = _period(record)
    return tag("header", tag("h1", plain(record.name)), tag("p", aims + (f" · {when}" if when else "")))


def headlines(record: StudyRecord) -> Html:
    """The figures that one looks for first, and whether the search was worth it."""
    cards = [_trials_card(record), _hypervolume_card(record), *_best_cards(record), *_baseline_cards(record)]
    trouble = not record.front or any(not best.beaten for best in references(record))
    text = tag("p", verdict(record), class_="verdict trouble" if trouble else "verdict")
    return tag("section", text, _knee_card(record), tag("div", *cards, class_="cards"), id="headlines")


def front_plot(record: StudyRecord) -> Html:
    """The figure of the front."""
    return section("Pareto front", figure(front_figure(record), "Pareto front of all trials"), id_="front")


def front_list(record: StudyRecord) -> Html:
    """The front beside the baselines, in numbers."""
    rows, names = table_rows(record), param_names(record)
    if not rows:
        return Html()
    headings = ["", *map(heading, record.objectives), *map(plain, names), ""]
    return section("The front beside the baselines", table(headings, [_row(r, names) for r in rows]), id_="table")


def failures(record: StudyRecord) -> Html:
    """The trials that failed, with their reasons."""
    if not record.failures:
        return Html()
    rows = [
        row(f"trial {failure.trial}", [plain(failure.reason), "yes" if failure.counted else "no"])
        for failure in record.failures
    ]
    listed = table(["", "reason", "counts"], rows)
    if len(rows) > OPEN_FAILURES:
        listed = tag("details", tag("summary", count(len(rows), "failed trial")), listed)
    return section("Failures", listed, id_="failures")


def passport(record: StudyRecord) -> Html:
    """What the numbers depend on: definition, data, versions, machine."""
    groups = [("Passport", record.passport), ("Definition", record.definition)]
    shown = [join((tag("h3", title), definitions(_flat(values)))) for title, values in groups if values]
    summary = tag("summary", "Passport: what these numbers depend on")
    return tag("section", tag("details", summary, *shown), id="passport") if shown else Html()


def figure(drawn: go.Figure, label: str) -> Html:
    """A place for a Plotly figure, which the page's script draws."""
    data = tag("script", Html(figure_json(drawn)), type="application/json")
    return tag("div", tag("div", class_="plot", role="group", aria_label=label), data, class_="figure")


SECTIONS = (header, headlines, front_plot, front_list, failures, passport)


def _row(shown: TableRow, names: list[str]) -> Html:
    cells = [*map(fixed, shown.values), *params_shown(shown, names), shown.note]
    return row(plain(shown.name), cells, "baseline" if shown.is_baseline else shown.note)


def _trials_card(record: StudyRecord) -> Html:
    states = ", ".join(f"{amount:,} {STATES.get(state, plain(state))}" for state, amount in record.states.items())
    return card("trials that count", f"{record.counting:,}", tag("p", states))


def _hypervolume_card(record: StudyRecord) -> Html:
    if "chance" not in record.baselines:
        return card("hypervolume", "–", tag("p", "no baselines are stored to measure it from"))
    return card("hypervolume", number(record.hypervolume), tag("p", "of the box between chance and the ideal"))


def _knee_card(record: StudyRecord) -> Html:
    if record.knee is None:
        return Html()
    params = definitions((plain(name), number(value)) for name, value in record.knee.params.items())
    return tag("div", card(f"knee: trial {record.knee.trial}", _values(record, record.knee), params), class_="knee")


def _best_cards(record: StudyRecord) -> list[Html]:
    if not record.front:
        return []
    ends = zip(record.objectives, (record.front[0], record.front[-1]), (0, 1), strict=True)
    return [
        card(
            f"best {metric.label}", number(best.values[index]), tag("p", f"trial {best.trial}: {_values(record, best)}")
        )
        for metric, best, index in ends
    ]


def _baseline_cards(record: StudyRecord) -> list[Html]:
    return [
        card(f"best baseline, {best.metric.label}", number(best.value),
             tag("p", f"{plain(best.name)}, {'beaten' if best.beaten else 'not beaten'}"))
        for best in references(record)
    ]  # fmt: skip


def _values(record: StudyRecord, trial: FrontRow) -> str:
    return listing([f"{m.label} {number(value)}" for m, value in zip(record.objectives, trial.values, strict=True)])


def _period(record: StudyRecord) -> str:
    ends = [moment.isoformat(" ", "minutes") for moment in (record.begun, record.ended) if moment]
    return " to ".join(dict.fromkeys(ends))


def _flat(values: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Nested tables as `table.key` and value."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            pairs += _flat(value, f"{path}{key}.")
        else:
            pairs.append((plain(f"{path}{key}"), plain(value if isinstance(value, str) else _json(value))))
    return pairs


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _policy(*scripts: str) -> str:
    """A content security policy: exactly these scripts run, and nothing is fetched, whatever a name contains."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    rest = "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {rest}"


def _resource(name: str) -> str:
    return resources.files("mtsearch.report").joinpath(name).read_text(encoding="utf-8")

"""A study as one self-contained HTML document: it needs no network and no other file.

A section is a function from the record to HTML, empty where there is nothing to say; `SECTIONS` is their order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtsearch.report.front_html import front_html
from mtsearch.report.html_document import Source, document, write_document
from mtsearch.report.markup import Html, card, definitions, join, row, section, table, tag
from mtsearch.report.on_test_view import on_test
from mtsearch.report.page_data import page_data
from mtsearch.report.page_plots import curve_plots, front_plot, hypervolume_plot, parameter_plots, time_plot
from mtsearch.report.references import best_trials, references, verdict
from mtsearch.report.wording import aims, box, count, front_name, listing, number, plain, states

if TYPE_CHECKING:
    from mtsearch.search.front import FrontRow
    from mtsearch.search.record import StudyRecord

OPEN_FAILURES = 10
"""More failures than this are folded away."""


def page(record: StudyRecord, storage: str | None = None, plotlyjs: Source = "inline") -> str:
    """The study's page; all text that came from users or files is escaped.

    Args:
        record: of the study, with its importances where they shall be shown.
        storage: for the commands on it, as people may see it; None: the default one.
        plotlyjs: `inline` puts all of plotly.js into the page; `cdn` fetches it from Plotly's server.
    """
    body = join(part(record) for part in SECTIONS)
    return document(plain(record.name), body, page_data(record, storage), plotlyjs)


def write_page(record: StudyRecord, place: Path, storage: str | None = None, plotlyjs: Source = "inline") -> Path:
    """Write the page, whole or not at all, and say where it is.

    Args:
        record, storage, plotlyjs: see `page`.
        place: the file, if its name ends in .html and it is no folder; else the folder, for an `index.html` in it.

    Raises:
        MachineError: the folder cannot be made or the file written.
    """
    return write_document(page(record, storage, plotlyjs), place)


def header(record: StudyRecord) -> Html:
    """The study's name, what it optimises, when it ran."""
    when = _period(record)
    said = aims(record.objectives) + (f" · {when}" if when else "")
    return tag("header", tag("h1", plain(record.name)), tag("p", said))


def headlines(record: StudyRecord) -> Html:
    """The figures that one looks for first, and whether the search was worth it."""
    cards = [_trials_card(record), _hypervolume_card(record), *_best_cards(record), *_baseline_cards(record)]
    trouble = not record.front or any(not best.beaten for best in references(record))
    text = tag("p", verdict(record), class_="verdict trouble" if trouble else "verdict")
    return tag("section", text, _knee_card(record), tag("div", *cards, class_="cards"), id="headlines")


def front_list(record: StudyRecord) -> Html:
    """The front beside the baselines, in numbers."""
    listed = front_html(record)
    title = f"{front_name(record.objectives, len(record.front)).capitalize()} beside the baselines"
    return section(title, listed, id_="table") if listed else listed


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


SECTIONS = (
    header,
    headlines,
    front_plot,
    front_list,
    on_test,
    hypervolume_plot,
    curve_plots,
    parameter_plots,
    time_plot,
    failures,
    passport,
)


def _trials_card(record: StudyRecord) -> Html:
    return card("trials that count", f"{record.counting:,}", tag("p", states(record.states)))


def _hypervolume_card(record: StudyRecord) -> Html:
    if "chance" not in record.baselines:
        return card("hypervolume", "–", tag("p", "no baselines are stored to measure it from"))
    return card("hypervolume", number(record.hypervolume), tag("p", f"of {box(record.objectives)}"))


def _knee_card(record: StudyRecord) -> Html:
    if record.knee is None:
        return Html()
    params = definitions((plain(name), number(value)) for name, value in record.knee.params.items())
    what = "knee" if len(record.objectives) > 1 else "best"
    return tag("div", card(f"{what}: trial {record.knee.trial}", _values(record, record.knee), params), class_="knee")


def _best_cards(record: StudyRecord) -> list[Html]:
    """A card per objective; none with a single one, whose best trial has the wide card."""
    if len(record.objectives) == 1:
        return []
    return [
        card(
            f"best {metric.label}", number(best.values[index]), tag("p", f"trial {best.trial}: {_values(record, best)}")
        )
        for index, (metric, best) in enumerate(zip(record.objectives, best_trials(record), strict=False))
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

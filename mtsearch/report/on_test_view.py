"""The front on the test rows as a table, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from mtsearch.evaluation.interval import Interval
from mtsearch.report.markup import Html, row, section, table, tag
from mtsearch.report.on_test import FrontOnTest, Member, front_on_test
from mtsearch.report.on_test_verdict import on_test_verdict
from mtsearch.report.tables import as_text, bare_table, fixed, heading
from mtsearch.report.wording import count, front_name, plain, trials

if TYPE_CHECKING:
    from mtsearch.search.record import StudyRecord

_OPTIMISM = "optimism: how much worse test is than validation was; above 0, validation was too good"


def on_test_table(found: FrontOnTest) -> Table:
    """The members beside the baselines on test; 80 columns hold it."""
    several = len(found.objectives) > 1
    shown = bare_table(
        f"{plain(found.study)}: {_front(found)} on test, {_seeds(found)}{'' if _is_one(found) else ' each'}"
    )
    marks = ["◆ knee", "✗ off the front on test"] if several else ["✗ not the best on test"]
    legend = [*marks, "±: half of the 95 % interval of the mean over seeds", _OPTIMISM]
    shown.caption = as_text(" · ".join(legend[1:] if _is_one(found) else legend))
    shown.caption_justify = "left"
    shown.add_column("", no_wrap=True)
    if len(found.objectives) <= 2:
        _fill_in_columns(shown, found)
    else:
        _fill_in_lines(shown, found)
    return shown


def _fill_in_columns(shown: Table, found: FrontOnTest) -> None:
    """Put the objectives side by side, a line per member and baseline."""
    for metric in found.objectives:
        shown.add_column(Text(f"{heading(metric)}\non test"), overflow="fold")
        shown.add_column(Text("valid-\nation"), justify="right")
        shown.add_column(Text("opti-\nmism"), justify="right")
    for member in found.members:
        last = member is found.members[-1]
        cells = [_marked(found, member), *_cells(found, member, _with_half)]
        shown.add_row(*map(as_text, cells), end_section=last, style="bold" if _is_knee(found, member) else None)
    for name, values in found.baselines.items():
        cells = [text for metric in found.objectives for text in (fixed(values[metric.key]), "", "")]
        shown.add_row(*map(as_text, [name, *cells]))


def _fill_in_lines(shown: Table, found: FrontOnTest) -> None:
    """Put the objectives below each other: three or more of them side by side are wider than a terminal."""
    shown.add_column("", overflow="fold")
    shown.add_column(Text("on test"))
    shown.add_column(Text("validation"), justify="right")
    shown.add_column(Text("optimism"), justify="right")
    for member in found.members:
        cells, style = _cells(found, member, _with_half), "bold" if _is_knee(found, member) else None
        for index, metric in enumerate(found.objectives):
            line = ["" if index else _marked(found, member), heading(metric), *cells[3 * index : 3 * index + 3]]
            shown.add_row(*map(as_text, line), style=style, end_section=metric is found.objectives[-1])
    for name, values in found.baselines.items():
        for index, metric in enumerate(found.objectives):
            line = ["" if index else name, heading(metric), fixed(values[metric.key]), "", ""]
            shown.add_row(*map(as_text, line), end_section=metric is found.objectives[-1])


def on_test(record: StudyRecord) -> Html:
    """The page's section; empty before a report."""
    found = front_on_test(record)
    if not found.members:
        return Html()
    headings = [""]
    for metric in found.objectives:
        headings += [f"{heading(metric)} on test", "95 % interval", "validation", "optimism"]
    rows = [_member_row(found, member) for member in found.members]
    rows += [_baseline_row(found, name) for name in found.baselines]
    said = tag("ul", *(tag("li", line) for line in on_test_verdict(found)))
    trained = "Trained" if _is_one(found) else "Each trained"
    about = f"{trained} again on training and validation rows with {_seeds(found)}; {_OPTIMISM}."
    title = f"{_front(found).capitalize()} on test"
    return section(title, tag("p", about, class_="hint"), table([*headings, ""], rows), said, id_="test")


def _member_row(found: FrontOnTest, member: Member) -> Html:
    cells = _cells(found, member, _with_ends)
    return row(f"trial {member.row.trial}", [*cells, _note(found, member)], "knee" if _is_knee(found, member) else "")


def _baseline_row(found: FrontOnTest, name: str) -> Html:
    values = found.baselines[name]
    cells = [text for metric in found.objectives for text in (fixed(values[metric.key]), "", "", "")]
    return row(plain(name), [*cells, ""], "baseline")


def _cells(found: FrontOnTest, member: Member, shown: Callable[[Interval | None], list[str]]) -> list[str]:
    """Per objective what `shown` makes of the test interval, then validation and optimism."""
    cells: list[str] = []
    for metric, validation in zip(found.objectives, member.row.values, strict=True):
        optimism = f"{member.optimism[metric.key]:+.4f}" if member.test else ""
        cells += [*shown(member.test.get(metric.key)), fixed(validation), optimism]
    return cells


def _with_half(interval: Interval | None) -> list[str]:
    if interval is None:
        return ["failed"]
    half = f" ±{fixed(interval.high - interval.mean)}" if len(interval.values) > 1 else ""
    return [fixed(interval.mean) + half]


def _with_ends(interval: Interval | None) -> list[str]:
    if interval is None:
        return ["failed", ""]
    several = len(interval.values) > 1
    return [fixed(interval.mean), f"{fixed(interval.low)}\u00a0to\u00a0{fixed(interval.high)}" if several else ""]


def _seeds(found: FrontOnTest) -> str:
    """`5 seeds`; `4 to 5 seeds` where a report was interrupted."""
    fewest = min((len(member.seeds) for member in found.members), default=0)
    most = count(found.seeds, "seed")
    return most if fewest == found.seeds else f"{fewest} to {most}"


def _front(found: FrontOnTest) -> str:
    return front_name(found.objectives, len(found.members))


def _is_one(found: FrontOnTest) -> bool:
    """Whether it is about a single best trial, which nothing can be told from or fall behind."""
    return len(found.objectives) == 1 and len(found.members) <= 1


def _is_knee(found: FrontOnTest, member: Member) -> bool:
    """Whether it stands out as the knee; with one objective all members are equally good."""
    return member.row.trial == found.knee and len(found.objectives) > 1


def _marked(found: FrontOnTest, member: Member) -> str:
    marks = [" ◆"] if _is_knee(found, member) else []
    marks += [" ✗"] if member.test and not member.on_front else []
    return f"trial {member.row.trial}{''.join(marks)}"


def _note(found: FrontOnTest, member: Member) -> str:
    notes = ["knee"] if _is_knee(found, member) else []
    what = "falls off behind" if len(found.objectives) > 1 else "falls behind"
    notes += [f"{what} {trials(member.dominated_by)}"] if member.dominated_by else []
    notes += [f"not told from {trials(member.alike)}"] if member.alike else []
    return ", ".join(notes)

"""Choosing a trial: what a pick means, which trial it takes, and what stands beside that one."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mtsearch.errors import PickError
from mtsearch.objectives import Metric
from mtsearch.search.front import FrontRow, dominates, knee
from mtsearch.search.record import StudyRecord
from mtsearch.study_file.mistakes import nearest, short, shown

KNEE = "knee"

_TRIAL = re.compile(r"trial:\s*(\d{1,18})", re.ASCII)
_RULE = re.compile(r"(\w+)\s*([<>]=)\s*(\S+)", re.ASCII)


@dataclass(frozen=True)
class Pick:
    """What was asked for.

    Attributes:
        kind: the knee, the best of an objective, one trial, or the best of those that meet a rule.
        index: of the objective that is named, 0-based; the rule's bound is on it.
        bound: the worst value that meets the rule.
        trial: its number.
    """

    kind: Literal["knee", "best", "trial", "rule"]
    index: int = 0
    bound: float = math.nan
    trial: int = -1


@dataclass(frozen=True)
class Choice:
    """A trial that was chosen, and what stands beside it.

    Attributes:
        asked: the pick as it was written.
        pick: what it means.
        row: the trial.
        neighbours: per objective, of the front's trials that are better in it the one that is least so; None where
            none is, and for a trial that is not on the front.
        equals: further trials of the front with the same values.
        dominated_by: the trials of the front that are no worse in every objective and better in one.
    """

    asked: str
    pick: Pick
    row: FrontRow
    neighbours: tuple[FrontRow | None, ...]
    equals: tuple[FrontRow, ...]
    dominated_by: tuple[FrontRow, ...]


def parse_pick(text: str, objectives: tuple[Metric, ...]) -> Pick:
    """Read `knee`, an objective's key, `trial:17`, or a rule such as `rmse<=0.93`.

    Raises:
        PickError: it is none of these, or a rule that asks for the worse side of an objective.
    """
    keys = [metric.key for metric in objectives]
    text = text.strip()
    if text == KNEE:
        return Pick("knee")
    if text in keys:
        return Pick("best", index=keys.index(text))
    if match := _TRIAL.fullmatch(text):
        return Pick("trial", trial=int(match[1]))
    if match := _RULE.fullmatch(text):
        return _parse_rule(match, objectives, text)
    word = re.fullmatch(r"\w+", text)
    meant = nearest(text, [KNEE, *keys]) if word else ""
    raise PickError(f"pick {shown(text)} cannot be read{meant}", forms(objectives))


def forms(objectives: tuple[Metric, ...]) -> str:
    """Return the ways to write a pick, for a study of these objectives."""
    keys = ", ".join(metric.key for metric in objectives)
    return f"write {KNEE}, {keys}, trial:N, or a rule: {_either([_rule(metric) for metric in objectives])}"


def choose(record: StudyRecord, asked: str = KNEE) -> Choice:
    """Return the trial that a pick takes; of equal ones the first of the front.

    A rule takes one of the front's trials that meet it: with two objectives the best in the other one, with more the
    knee of those trials. With one objective they are equals.

    Raises:
        PickError: the pick cannot be read, nothing is there to choose from, or nothing is as it asks.
    """
    pick = parse_pick(asked, record.objectives)
    row = _named(record, pick.trial) if pick.kind == "trial" else _from_front(record, pick, asked)
    dominated_by = tuple(other for other in record.front if dominates(other, row, record.signs))
    equals = tuple(other for other in record.front if other.values == row.values and other.trial != row.trial)
    neighbours = tuple(
        None if dominated_by else _next_better(record, row, index) for index in range(len(record.objectives))
    )
    return Choice(asked.strip(), pick, row, neighbours, equals, dominated_by)


def meets(row: FrontRow, pick: Pick, signs: tuple[float, ...]) -> bool:
    """Whether a trial is no worse than a rule's bound."""
    return _excess(row, pick, signs) <= 0


def _parse_rule(match: re.Match[str], objectives: tuple[Metric, ...], text: str) -> Pick:
    key, sign, number = match.groups()
    metric = next((metric for metric in objectives if metric.key == key), None)
    if metric is None:
        keys = _either([metric.key for metric in objectives])
        raise PickError(f"pick {shown(text)}: {short(key)} is no objective of the study", f"name {keys}")
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise PickError(f"pick {shown(text)}: {shown(number)} is not a finite number", f"for example {_rule(metric)}")
    right = _sign(metric)
    if sign != right:
        which = "lower" if right == "<=" else "higher"
        raise PickError(
            f"pick {shown(text)} asks for the worse side: {which} {key} is better", f"write {key}{right}{number}"
        )
    return Pick("rule", objectives.index(metric), bound)


def _sign(metric: Metric) -> str:
    return "<=" if metric.direction == "minimize" else ">="


def _rule(metric: Metric) -> str:
    """A rule on an objective, as an example."""
    return f'"{metric.key}{_sign(metric)}{0.93 if metric.direction == "minimize" else 0.38}"'


def _either(words: Sequence[str]) -> str:
    """Join them as "a", "a or b", "a, b or c"."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def front_of(record: StudyRecord) -> list[FrontRow]:
    """The front, which has one trial at least.

    Raises:
        PickError: it has none; the message says why.
    """
    if record.front:
        return record.front
    if record.infeasible:
        raise PickError(
            f"study {record.name}: no trial keeps the [constraints], so there is no front",
            "widen [constraints] in a study of another name (--study)",
        )
    states = ", ".join(f"{amount} {state}" for state, amount in record.states.items()) or "none"
    raise PickError(f"study {record.name} has no front (trials: {states})", "`mtsearch run` adds trials to it")


def _from_front(record: StudyRecord, pick: Pick, asked: str) -> FrontRow:
    front, signs = front_of(record), record.signs
    if pick.kind == "knee" and record.knee is not None:
        return record.knee
    if pick.kind == "best":
        return min(front, key=lambda row: signs[pick.index] * row.values[pick.index])
    meeting = [row for row in front if meets(row, pick, signs)]
    if not meeting:
        raise _unmet(record, pick, asked.strip())
    if len(signs) == 2:
        other = 1 - pick.index
        return min(meeting, key=lambda row: signs[other] * row.values[other])
    return knee(meeting, signs) or meeting[0]


def _excess(row: FrontRow, pick: Pick, signs: tuple[float, ...]) -> float:
    """How much worse than the bound a trial is."""
    return signs[pick.index] * row.values[pick.index] - signs[pick.index] * pick.bound


def _unmet(record: StudyRecord, pick: Pick, asked: str) -> PickError:
    closest = min(record.front, key=lambda row: _excess(row, pick, record.signs))
    metric, value = record.objectives[pick.index], closest.values[pick.index]
    unit = f" {metric.unit}" if metric.unit else ""
    away = f"{_excess(closest, pick, record.signs):.2g}{unit}"
    return PickError(
        f"no trial of the front meets {asked}: the nearest is trial {closest.trial} with {metric.label} "
        f"{value:.6g}{unit}, {away} away",
        f"loosen it, take --pick trial:{closest.trial}, or search longer",
    )


def _named(record: StudyRecord, number: int) -> FrontRow:
    row = next((row for row in record.rows if row.trial == number), None)
    if row is None:
        raise PickError(f"study {record.name}: {_why_not(record, number)}", "name a complete trial, or pick the knee")
    return row


def _why_not(record: StudyRecord, number: int) -> str:
    """Why a trial that is no point cannot be chosen."""
    failure = next((failure for failure in record.failures if failure.trial == number), None)
    if failure:
        return f"trial {number} failed ({failure.reason})"
    if number in record.infeasible:
        return f"trial {number} took more than its [constraints] allow"
    trials = sum(record.states.values())
    if number >= trials:
        held = f"its trials are 0 to {trials - 1}" if trials else "it has none"
        return f"there is no trial {number}; {held}"
    return f"trial {number} is not complete"


def _next_better(record: StudyRecord, row: FrontRow, index: int) -> FrontRow | None:
    """Return the trial of the front that is better in an objective by the least; None if none is better."""
    sign = record.signs[index]
    better = [other for other in record.front if sign * other.values[index] < sign * row.values[index]]
    return max(better, key=lambda other: sign * other.values[index], default=None)

"""How a study went on: hypervolume over its trials and over the clock, and learning curves, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mtsearch.search.front import dominates

if TYPE_CHECKING:
    from mtsearch.search.front import FrontRow
    from mtsearch.search.record import StudyRecord

CURVE_POINTS = 20_000
"""Epochs that all curves of a page share; longer ones are thinned."""


@dataclass(frozen=True)
class Step:
    """The study after one more of its trials.

    Attributes:
        trial: its number.
        volume: hypervolume of the trials so far.
        minutes: so long at least one trial had run by then; None where times are not stored.
    """

    trial: int
    volume: float
    minutes: float | None


def hypervolume_steps(record: StudyRecord) -> list[Step]:
    """The hypervolume after each trial of `record.rows`, in the order of their ends; empty without baselines."""
    if "chance" not in record.baselines:
        return []
    busy, steps, volume = busy_minutes(record), [], 0.0
    front: list[FrontRow] = []
    for row in by_end(record):
        if not any(dominates(member, row, record.signs) for member in front):
            before = front
            front = [*(member for member in before if not dominates(row, member, record.signs)), row]
            # NOTE: of 1,000 trials with four objectives, 716 of them on the front, the whole volume after each takes
            # 174 s, the gains 6 s. Of two objectives the whole is as fast, and has no rounding that adds up.
            several = len(record.signs) > 2
            volume = volume + _gain(record, before, row) if several else record.volume([each.values for each in front])
        steps.append(Step(row.trial, volume, busy.get(row.trial)))
    return steps


def busy_minutes(record: StudyRecord) -> dict[int, float]:
    """By trial, how long at least one trial had run by its end: pauses between runs are left out."""
    moments = [(time.begun, 1, -1) for time in record.times.values()]
    moments += [(time.ended, -1, trial) for trial, time in record.times.items()]
    minutes: dict[int, float] = {}
    total, running, before = 0.0, 0, datetime.min
    for moment, change, trial in sorted(moments, key=lambda each: (each[0], -each[1])):
        if running > 0:
            total += (moment - before).total_seconds() / 60
        running, before = running + change, moment
        if change < 0:
            minutes[trial] = total
    return minutes


@dataclass(frozen=True)
class Curve:
    """One trial's epochs.

    Attributes:
        epochs: 1-based, those that are shown.
        values: of each objective, an entry per epoch; None where it is not finite.
    """

    epochs: tuple[int, ...]
    values: tuple[tuple[float | None, ...], ...]


def curves(record: StudyRecord, points: int = CURVE_POINTS) -> dict[int, Curve]:
    """The learning curves by trial, thinned to so many epochs in all (five a curve are always kept)."""
    stored = {trial: epochs for trial, epochs in record.curves.items() if epochs}
    most = max(5, points // max(1, len(stored)))
    return {trial: _curve(record, _thinned(epochs, most)) for trial, epochs in stored.items()}


def on_front(record: StudyRecord) -> set[int]:
    """The numbers of the front's trials."""
    return {row.trial for row in record.front}


def duration(record: StudyRecord, trial: int) -> float | None:
    """Seconds from a trial's begin to its end; None where they are not stored."""
    time = record.times.get(trial)
    return (time.ended - time.begun).total_seconds() if time else None


def _gain(record: StudyRecord, front: Sequence[FrontRow], row: FrontRow) -> float:
    """Return what a trial adds to the hypervolume of a front: its own box without what the front dominates of it."""
    corners = [
        tuple(sign * max(sign * a, sign * b) for sign, a, b in zip(record.signs, each.values, row.values, strict=True))
        for each in front
    ]
    return record.volume([row.values]) - record.volume(corners)


def by_end(record: StudyRecord) -> list[FrontRow]:
    """Return the trials of `record.rows` in the order of their ends; by number where no times are stored."""
    return sorted(record.rows, key=lambda row: _end(record, row.trial))


def improvements(rows: Sequence[FrontRow], sign: float) -> list[tuple[int, FrontRow]]:
    """Return the rows that are better in the first objective than all before them, each with its 1-based place.

    Args:
        rows: in order.
        sign: 1 where lower is better, -1 where higher is.
    """
    found: list[tuple[int, FrontRow]] = []
    for place, row in enumerate(rows, start=1):
        if not found or sign * row.values[0] < sign * found[-1][1].values[0]:
            found.append((place, row))
    return found


def _end(record: StudyRecord, trial: int) -> tuple[datetime, int]:
    time = record.times.get(trial)
    return (time.ended if time else datetime.min, trial)


def _curve(record: StudyRecord, epochs: Sequence[Mapping[str, Any]]) -> Curve:
    values = (
        tuple(_finite(epoch.get("metrics", {}).get(metric.key)) for epoch in epochs) for metric in record.objectives
    )
    return Curve(tuple(int(epoch["epoch"]) for epoch in epochs), tuple(values))


def _thinned(epochs: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """At most so many, the first and the last among them."""
    if len(epochs) <= most:
        return list(epochs)
    return [epochs[round(place * (len(epochs) - 1) / (most - 1))] for place in range(most)]


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

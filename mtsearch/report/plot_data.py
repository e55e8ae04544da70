"""Data of the plots as plain values: hypervolume over trials and time, learning curves, parameters as axes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mtsearch.report.tables import spread_columns, spreads
from mtsearch.report.test_report import make_test_report, report_json
from mtsearch.search.pareto import dominates
from mtsearch.text import number

if TYPE_CHECKING:
    from mtsearch.search.pareto import FrontRow
    from mtsearch.search.results import StudyResults

CURVE_POINTS = 20_000
"""Epochs that all curves of a page share; longer ones are thinned."""


@dataclass(frozen=True)
class Step:
    """State of a study after one more of its trials.

    Attributes:
        trial: number of the trial.
        volume: hypervolume of the trials so far.
        minutes: time in which at least one trial ran, up to then; None if no times are stored.
    """

    trial: int
    volume: float
    minutes: float | None


def hypervolume_steps(results: StudyResults) -> list[Step]:
    """Return the hypervolume after each trial in the order of their ends; empty without baselines."""
    if results.reference is None:
        return []
    busy, steps, volume = busy_minutes(results), [], 0.0
    front: list[FrontRow] = []
    for row in by_end(results):
        if not any(dominates(member, row, results.signs) for member in front):
            before = front
            front = [*(member for member in before if not dominates(row, member, results.signs)), row]
            # NOTE: of 1,000 trials with four objectives, 716 of them on the front, the whole volume after each takes
            # 174 s, the gains 6 s. Of two objectives the whole is as fast, and has no rounding that adds up.
            several = len(results.signs) > 2
            volume = (
                volume + results.gain(row.values, [each.values for each in before])
                if several
                else results.volume([each.values for each in front])
            )
        steps.append(Step(row.trial, volume, busy.get(row.trial)))
    return steps


def busy_minutes(results: StudyResults) -> dict[int, float]:
    """Return, by trial, the minutes in which at least one trial ran up to its end; pauses are left out."""
    moments = [(time.begun, 1, -1) for time in results.times.values()]
    moments += [(time.ended, -1, trial) for trial, time in results.times.items()]
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
    """Learning curve of one trial.

    Attributes:
        epochs: numbers of the plotted epochs, 1-based.
        values: for each objective, a value per epoch; None if the value is not finite.
    """

    epochs: tuple[int, ...]
    values: tuple[tuple[float | None, ...], ...]


def curves(results: StudyResults, points: int = CURVE_POINTS) -> dict[int, Curve]:
    """Return the learning curves by trial, thinned to a number of epochs in all (each keeps at least five)."""
    stored = {trial: epochs for trial, epochs in results.curves.items() if epochs}
    most = max(5, points // max(1, len(stored)))
    return {trial: _thinned_curve(results, _thinned(epochs, most)) for trial, epochs in stored.items()}


def on_front(results: StudyResults) -> set[int]:
    """Return the numbers of the front's trials."""
    return {row.trial for row in results.front}


def duration(results: StudyResults, trial: int) -> float | None:
    """Return the seconds from a trial's start to its end; None if no times are stored."""
    time = results.times.get(trial)
    return (time.ended - time.begun).total_seconds() if time else None


def by_end(results: StudyResults) -> list[FrontRow]:
    """Return the trials of `results.rows` in the order of their ends, or by number if no times are stored."""
    return sorted(results.rows, key=lambda row: _end_of(results, row.trial))


def improvements(rows: Sequence[FrontRow], sign: float) -> list[tuple[int, FrontRow]]:
    """Return the rows that are better in the first objective than all before them, each with its 1-based position.

    Args:
        rows: trials in the order of their ends.
        sign: 1 if lower is better, -1 if higher is better.
    """
    found: list[tuple[int, FrontRow]] = []
    for place, row in enumerate(rows, start=1):
        if not found or sign * row.values[0] < sign * found[-1][1].values[0]:
            found.append((place, row))
    return found


def _end_of(results: StudyResults, trial: int) -> tuple[datetime, int]:
    time = results.times.get(trial)
    return (time.ended if time else datetime.min, trial)


def _thinned_curve(results: StudyResults, epochs: Sequence[Mapping[str, Any]]) -> Curve:
    values = (
        tuple(_finite_or_none(epoch.get("metrics", {}).get(metric.key)) for epoch in epochs)
        for metric in results.objectives
    )
    return Curve(tuple(int(epoch["epoch"]) for epoch in epochs), tuple(values))


def _thinned(epochs: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """Return at most `most` epochs, always with the first and the last."""
    if len(epochs) <= most:
        return list(epochs)
    return [epochs[round(place * (len(epochs) - 1) / (most - 1))] for place in range(most)]


def _finite_or_none(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


@dataclass(frozen=True)
class Dimension:
    """A parameter or an objective as an axis.

    Attributes:
        name: name of the parameter or objective.
        values: value of each trial, by its number; a trial without the parameter is left out.
        log: true if the axis is logarithmic.
        ends: lowest and highest value; of a choice, the first and the last index.
        choices: all values of a choice in their order; empty for a number.
    """

    name: str
    values: Mapping[int, Any]
    log: bool
    ends: tuple[float, float]
    choices: tuple[Any, ...]

    def place(self, trial: int) -> float | None:
        """Return the position of a trial's value between the ends, from 0 to 1; 0.5 if there is only one value."""
        value = self.values.get(trial)
        if value is None:
            return None
        low, high = self._scaled(self.ends[0]), self._scaled(self.ends[1])
        at = float(self.choices.index(value)) if self.choices else self._scaled(value)
        return (at - low) / (high - low) if high > low else 0.5

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else float(value)

    @property
    def labels(self) -> tuple[str, str]:
        """Return the texts at both ends of the axis."""
        if self.choices:
            return number(self.choices[0]), number(self.choices[-1])
        return number(float(self.ends[0])), number(float(self.ends[1]))


def dimensions(results: StudyResults) -> list[Dimension]:
    """Return the parameters that have more than one value among the trials, by first appearance."""
    names = dict.fromkeys(name for row in results.rows for name in row.params)
    found = [_dimension(results, name) for name in names]
    return [each for each in found if len(set(each.values.values())) > 1]


def _dimension(results: StudyResults, name: str) -> Dimension:
    values = {row.trial: row.params[name] for row in results.rows if name in row.params}
    searched = _searched(results, name)
    numbers = [value for value in values.values() if _is_number(value)]
    if "choices" in searched or len(numbers) < len(values):
        choices = _choices(searched.get("choices", ()), values)
        return Dimension(name, values, False, (0.0, float(len(choices) - 1)), choices)
    log = bool(searched.get("log")) and min(numbers) > 0
    return Dimension(name, values, log, (min(numbers), max(numbers)), ())


def _searched(results: StudyResults, name: str) -> Mapping[str, Any]:
    space = results.definition.get("space") or {}
    searched = space.get(name) if isinstance(space, Mapping) else None
    return searched if isinstance(searched, Mapping) else {}


def _choices(listed: Any, values: Mapping[int, Any]) -> tuple[Any, ...]:
    """Return the choices of a parameter in the order of the definition, then further values that were run."""
    seen = list(dict.fromkeys(values.values()))
    try:
        seen.sort()
    except TypeError:
        seen.sort(key=str)
    return tuple(dict.fromkeys([*listed, *seen]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def plot_json(results: StudyResults) -> dict[str, Any]:
    """Return all data of the page as plain values for JSON."""
    keys = [metric.key for metric in results.objectives]
    return {
        "study": results.name,
        "objectives": keys,
        "hypervolume": results.hypervolume,
        "baselines": {
            name: {key: values[key] for key in keys if key in values} for name, values in results.baselines.items()
        },
        "importance": {key: dict(shares) for key, shares in results.importances.items()},
        "trials": [
            {
                **flat,
                "params": dict(row.params),
                "metrics": dict(row.metrics),
                **spreads(results, row.trial),
            }
            for row, flat in zip(results.rows, _trial_rows(results), strict=True)
        ],
        "curves": [
            {"trial": trial, "epochs": list(curve.epochs), **dict(zip(keys, map(list, curve.values), strict=True))}
            for trial, curve in curves(results).items()
        ],
        "report": report_json(make_test_report(results)) if results.tested(results.tested_members) else None,
        "failures": [
            {"trial": each.trial, "reason": each.reason, "counted": each.counted} for each in results.failures
        ],
    }


def plot_csv(results: StudyResults) -> str:
    """Return the complete trials as CSV text (RFC 4180): number, objectives, plotted values, parameters.

    The last columns are those of `spread_columns`.
    """
    params = list(dict.fromkeys(name for row in results.rows for name in row.params))
    columns = {row.trial: spread_columns(results, row.trial) for row in results.rows}
    spread = list(dict.fromkeys(name for own in columns.values() for name in own))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    keys = [metric.key for metric in results.objectives]
    writer.writerow(["trial", *keys, "front", "knee", "hypervolume", "minutes", "seconds", *params, *spread])
    for row, flat in zip(results.rows, _trial_rows(results), strict=True):
        values = [row.params.get(name) for name in params] + [columns[row.trial].get(name) for name in spread]
        writer.writerow([*flat.values(), *values])
    return text.getvalue()


def _trial_rows(results: StudyResults) -> list[dict[str, Any]]:
    """Return the plotted values of each complete trial, without its parameters."""
    keys = [metric.key for metric in results.objectives]
    steps, front = {step.trial: step for step in hypervolume_steps(results)}, on_front(results)
    knee = results.knee.trial if results.knee else None
    return [
        {
            "trial": row.trial,
            **dict(zip(keys, row.values, strict=True)),
            "front": row.trial in front,
            "knee": row.trial == knee,
            "hypervolume": steps[row.trial].volume if steps else None,
            "minutes": steps[row.trial].minutes if steps else None,
            "seconds": duration(results, row.trial),
        }
        for row in results.rows
    ]

"""What was searched, as axes: the values of each parameter by trial, their scale, and where on it each lies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtsearch.report.wording import number

if TYPE_CHECKING:
    from mtsearch.search.record import StudyRecord


@dataclass(frozen=True)
class Dimension:
    """A parameter or an objective as an axis.

    Attributes:
        name: of it.
        values: by trial; a trial that has none is left out.
        log: whether equal ratios are equal distances.
        ends: lowest and highest value; of a choice, the first and the last index.
        choices: all values in their order, where it is a choice; else empty.
    """

    name: str
    values: Mapping[int, Any]
    log: bool
    ends: tuple[float, float]
    choices: tuple[Any, ...]

    def place(self, trial: int) -> float | None:
        """Where a trial's value lies between the ends, 0 to 1; the middle where there is one value alone."""
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
        """What stands at the ends."""
        if self.choices:
            return number(self.choices[0]), number(self.choices[-1])
        return number(float(self.ends[0])), number(float(self.ends[1]))


def dimensions(record: StudyRecord) -> list[Dimension]:
    """The searched parameters of the study's trials that have more than one value, by first appearance."""
    names = dict.fromkeys(name for row in record.rows for name in row.params)
    found = [_dimension(record, name) for name in names]
    return [each for each in found if len(set(each.values.values())) > 1]


def _dimension(record: StudyRecord, name: str) -> Dimension:
    values = {row.trial: row.params[name] for row in record.rows if name in row.params}
    searched = _searched(record, name)
    numbers = [value for value in values.values() if _is_number(value)]
    if "choices" in searched or len(numbers) < len(values):
        choices = _choices(searched.get("choices", ()), values)
        return Dimension(name, values, False, (0.0, float(len(choices) - 1)), choices)
    log = bool(searched.get("log")) and min(numbers) > 0
    return Dimension(name, values, log, (min(numbers), max(numbers)), ())


def _searched(record: StudyRecord, name: str) -> Mapping[str, Any]:
    space = record.definition.get("space") or {}
    searched = space.get(name) if isinstance(space, Mapping) else None
    return searched if isinstance(searched, Mapping) else {}


def _choices(listed: Any, values: Mapping[int, Any]) -> tuple[Any, ...]:
    """As the definition lists them, then what else was run; without a definition, sorted where they can be."""
    seen = list(dict.fromkeys(values.values()))
    try:
        seen.sort()
    except TypeError:
        seen.sort(key=str)
    return tuple(dict.fromkeys([*listed, *seen]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

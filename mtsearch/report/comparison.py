"""What sets studies apart: fronts, hypervolumes by one measure, definitions and passports, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mtsearch.errors import StudyMismatch
from mtsearch.objectives import Metric
from mtsearch.report.progress import Step, hypervolume_steps
from mtsearch.report.references import best_trials
from mtsearch.report.tables import front_rows
from mtsearch.report.wording import listing
from mtsearch.search.front import FrontRow, dominates
from mtsearch.search.passport import differences

if TYPE_CHECKING:
    from mtsearch.search.record import StudyRecord


@dataclass(frozen=True)
class Compared:
    """One of the studies.

    Attributes:
        record: of it; where all have the same data and split, with the baselines of the first, so that everyone's
            hypervolume has the same reference.
        differences: `key: the first -> this one`, by the words `definition` and `passport`.
    """

    record: StudyRecord
    differences: Mapping[str, Sequence[str]]

    @property
    def best(self) -> list[FrontRow]:
        """The front's best trial of each objective; nothing without a front."""
        return best_trials(self.record)

    @cached_property
    def progress(self) -> list[Step]:
        """The hypervolume after each trial."""
        return hypervolume_steps(self.record)


@dataclass(frozen=True)
class Comparison:
    """Studies side by side.

    Attributes:
        studies: in the order in which they were named.
        same_data: whether all have the data and the split of the first, so that their numbers mean the same.
    """

    studies: tuple[Compared, ...]
    same_data: bool

    @property
    def objectives(self) -> tuple[Metric, ...]:
        """Of all."""
        return self.studies[0].record.objectives

    @property
    def names(self) -> list[str]:
        """Of the studies."""
        return [each.record.name for each in self.studies]

    @property
    def warning(self) -> str:
        """Why the numbers are not on one footing; empty where they are."""
        if self.same_data:
            return ""
        others = [
            each.record.name for each in self.studies[1:] if _data_of(each.record) != _data_of(self.studies[0].record)
        ]
        return (
            f"{listing(others)}: other data or another split than {self.names[0]}; each hypervolume is measured "
            "against its study's own baselines, and values of different rows cannot be set against each other"
        )

    def dominated(self, index: int, other: int) -> int | None:
        """How many members of a study's front some member of another's dominates; None where the data differ."""
        if not self.same_data:
            return None
        mine, theirs = self.studies[index].record, self.studies[other].record
        return sum(any(dominates(rival, row, mine.signs) for rival in theirs.front) for row in mine.front)


def comparison(records: Sequence[StudyRecord]) -> Comparison:
    """The studies side by side, the first as the measure of the others.

    Raises:
        StudyMismatch: their objectives are not the same.
    """
    first = records[0]
    for record in records[1:]:
        if _keys(record) != _keys(first):
            problem = f"{first.name} optimises {_aims(first)}, {record.name} {_aims(record)}"
            raise StudyMismatch(problem, "compare studies of the same objectives")
    same = all(_data_of(record) == _data_of(first) for record in records)
    measured = [replace(record, baselines=first.baselines) for record in records] if same else records
    return Comparison(tuple(Compared(record, _differences(first, record)) for record in measured), same)


def comparison_json(compared: Comparison) -> dict[str, Any]:
    """Everything as plain values."""
    return {
        "objectives": [metric.key for metric in compared.objectives],
        "same_data": compared.same_data,
        "warning": compared.warning,
        "studies": [_study_json(compared, index) for index in range(len(compared.studies))],
    }


def _study_json(compared: Comparison, index: int) -> dict[str, Any]:
    each, names = compared.studies[index], compared.names
    keys = [metric.key for metric in compared.objectives]
    best = zip(keys, each.best, range(len(keys)), strict=False)
    others = [other for other in range(len(names)) if other != index]
    return {
        "study": each.record.name,
        "trials": each.record.counting,
        "hypervolume": each.record.hypervolume,
        "best": {key: {"trial": row.trial, "value": row.values[place]} for key, row, place in best},
        "front": front_rows(each.record),
        "dominated_by": {names[other]: compared.dominated(index, other) for other in others},
        "differences": {what: list(lines) for what, lines in each.differences.items()},
        "progress": [
            {"trial": step.trial, "hypervolume": step.volume, "minutes": step.minutes} for step in each.progress
        ],
    }


def _differences(first: StudyRecord, other: StudyRecord) -> dict[str, list[str]]:
    pairs = {
        "definition": (_unnamed(first.definition), _unnamed(other.definition)),
        "passport": (first.passport, other.passport),
    }
    return {what: list(differences(stored, present)) for what, (stored, present) in pairs.items()}


def _unnamed(definition: Mapping[str, Any]) -> dict[str, Any]:
    study = {key: value for key, value in definition.get("study", {}).items() if key != "name"}
    return {**definition, "study": study}


def _data_of(record: StudyRecord) -> tuple[Any, ...]:
    return tuple(record.passport.get(part, {}).get("fingerprint") for part in ("data", "split"))


def _aims(record: StudyRecord) -> str:
    return listing(_keys(record))


def _keys(record: StudyRecord) -> list[str]:
    """Of the objectives; their unit may be another where the data are."""
    return [metric.key for metric in record.objectives]


def difference_rows(compared: Comparison) -> Iterable[tuple[str, str, str]]:
    """Study, `definition` or `passport`, and what differs from the first, one after another."""
    for each in compared.studies[1:]:
        for what, lines in each.differences.items():
            for line in lines:
                yield each.record.name, what, line

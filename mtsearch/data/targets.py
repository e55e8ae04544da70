"""Find out for each row of a table what the tasks of [tasks] learn from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtsearch.data.cleaning import LARGEST, RawRows
from mtsearch.data.interactions import RATINGS, make_tasks
from mtsearch.data.parse_columns import parse_numbers
from mtsearch.errors import MalformedData
from mtsearch.tables.columns import Column, is_number, strip_type
from mtsearch.tables.open import TableFile, identifier

if TYPE_CHECKING:
    from mtsearch.study_file.tasks import TaskSection

Tasks = Mapping[str, "TaskSection"]
Reals = NDArray[np.float64]


def _where(task: str) -> str:
    return f"[tasks.{task}] where"


def _target(task: str) -> str:
    return f"[tasks.{task}] target"


def plan_targets(tasks: Tasks, file: TableFile) -> tuple[dict[str, str], dict[str, str]]:
    """Return what has to be read of a table for its tasks: columns and SQL expressions, by place in the study file.

    Args:
        tasks: of the study file.
        file: the table.
    """
    columns: dict[str, str] = {}
    computed: dict[str, str] = {}
    known = {strip_type(file, each): each for each in reversed(file.names)} | {each: each for each in file.names}
    known = {each.lower(): column for each, column in known.items()} | known  # SQL does not tell capitals
    for name, task in tasks.items():
        if task.where is not None:
            computed[_where(name)] = task.where
        if task.target is not None:
            # A column is read as it stands in the file, so that a value that is no number is refused and not lost.
            plain = task.target.strip().strip('"')
            if column := known.get(plain) or known.get(plain.lower()):
                columns[_target(name)] = column
            else:
                computed[_target(name)] = task.target
    return columns, computed


def find_rated_targets(tasks: Tasks) -> tuple[int, ...]:
    """Return the numbers of the targets that are ratings: of rating tasks with a condition."""
    made = make_tasks(tasks) if tasks else ()
    return tuple(task.column for task in made if task.column not in (None, RATINGS) and tasks[task.name].uses_ratings)


def parse_targets(tasks: Tasks, take: Callable[[str], Column], ratings: Reals) -> tuple[Reals, ...]:
    """Return for each task that `make_tasks` gives a target `[N]` numbers; NaN for rows that do not serve it.

    Args:
        tasks: of the study file.
        take: returns the column for a place that `plan_targets` named.
        ratings: `[N]`.

    Raises:
        MalformedData: a target is not a number, or of a label not 0 or 1.
    """
    targets: list[Reals] = []
    for task in make_tasks(tasks) if tasks else ():
        if task.column in (None, RATINGS):
            continue
        section = tasks[task.name]
        serves = None if section.where is None else _parse_condition(take(_where(task.name)))
        if section.kind == "retrieval":
            values = np.ones(len(ratings))
        elif section.target is None:
            values = ratings  # as they are before cleaning; see `RawRows.rated`
        else:
            values = _parse_target(take(_target(task.name)), section, serves, task.name)
        targets.append(values if serves is None else np.where(serves, values, np.nan))
    return tuple(targets)


def _parse_condition(column: Column) -> NDArray[np.bool_]:
    """Return `[N]`, True for each row that meets a condition."""
    if not pa.types.is_boolean(column.values.type):
        raise MalformedData(
            f"{column.name} is no condition, but of type {column.values.type}", "write one, such as event = 'view'"
        )
    return np.asarray(column.values.fill_null(False), np.bool_)


def _parse_target(column: Column, section: TaskSection, serves: NDArray[np.bool_] | None, task: str) -> Reals:
    """Return `[N]` numbers, NaN where there is none; only rows that serve the task are checked."""
    kind, is_label, is_computed = column.values.type, section.kind == "label", column.name == _target(task)
    if not is_number(kind):
        raise MalformedData(f"{column.name} is no number, but of type {kind}", "write one, such as stars / 2")
    values = parse_numbers(
        Column(column.name, column.values.cast(pa.float64()), column.form, column.places, column.starts)
    )
    used = ~np.isnan(values) if serves is None else serves & ~np.isnan(values)
    wrong = used & ((values != 0) & (values != 1) if is_label else ~(np.abs(values) <= LARGEST))
    if wrong.any():
        row = int(np.argmax(wrong))
        if not is_label:
            remedy = "correct target, or leave such rows out by where" if is_computed else "correct the row"
            column.refuse(row, f"{values[row]:g} is not finite, or beyond float32", remedy)
        asked = column.name if column.name.isidentifier() else identifier(column.name)
        asked = f"{f'({section.target})' if is_computed else asked} > 0"
        column.refuse(
            row,
            f"{values[row]:g} is not a yes or no of [tasks.{task}], which are 1 and 0",
            f"write a condition, such as target = {json.dumps(asked, ensure_ascii=False)}",
        )
    return values


def drop_idle(raw: RawRows, tasks: Tasks, counts: dict[str, int]) -> RawRows:
    """Leave out the rows that serve no task, and count them."""
    made = make_tasks(tasks)
    if not tasks or any(task.column is None for task in made):
        return raw
    idle = np.logical_and.reduce(
        [np.isnan(raw.ratings if task.column == RATINGS else raw.targets[task.column or 0]) for task in made]
    )
    if not idle.any():
        return raw
    if idle.all():
        raise MalformedData("no row of the data serves a task", "correct `where` and `target` of the tables [tasks.*]")
    counts["rows that serve no task dropped"] = int(idle.sum())
    return raw.take(np.flatnonzero(~idle))

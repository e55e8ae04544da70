"""Split the table into rows to train, validate and test on, and describe table and split in numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Ids, Interactions, Rows, Task, digest, id_bytes, make_tasks
from mtsearch.errors import MalformedData

if TYPE_CHECKING:
    from mtsearch.study_file.sections import SplitSection
    from mtsearch.study_file.tasks import TaskSection

TRAIN, VALIDATION, TEST = 0, 1, 2
WITHOUT_TIMES = ("random", "column")
"""Methods that do not use times."""

Parts = NDArray[np.int8]
Index = NDArray[np.intp]


def partition(interactions: Interactions, section: SplitSection) -> Parts:
    """Return `[N]`, the part of each row: TRAIN, VALIDATION or TEST; no VALIDATION if the section validates on test.

    Rows with equal times are in the order of the table.

    Raises:
        MalformedData: the method needs times or a column that the table does not have.
    """
    rows, validates_on_test = interactions.rows, section.validation == "test"
    if section.method == "column":
        part = _read_column(interactions)
    elif section.method == "random":
        # NOTE: RandomState is frozen by NumPy's policy (NEP 19); default_rng may change its stream with a release.
        if section.group == "pair":
            pairs = number_pairs(rows)
            part = _assign_by_share(np.random.RandomState(section.seed).permutation(pairs[-1] + 1), section)[pairs]
        else:
            part = _assign_by_share(np.random.RandomState(section.seed).permutation(len(rows)), section)
    elif section.method == "temporal":
        _require_times(rows, section)
        latest_first = np.argsort(rows.timestamps, kind="stable")[::-1]
        part = _assign_by_share(latest_first, section)
    else:
        _require_times(rows, section)
        part = _assign_by_user(rows, section)
    return np.where(part == VALIDATION, np.int8(TRAIN), part) if validates_on_test else part


def number_pairs(rows: Rows) -> Index:
    """Return `[N]`, the number of each row's pair of a user and an item, from 0 on; the rows are sorted."""
    differs = (rows.users[1:] != rows.users[:-1]) | (rows.items[1:] != rows.items[:-1])
    return np.append(0, np.cumsum(differs)).astype(np.intp)[: len(rows)]


def _assign_by_share(order: Index, section: SplitSection) -> Parts:
    """Assign the first rows in `order` to test, the next ones to validation and the rest to training."""
    tested, validated = _count_held_out(np.array([len(order)]), section)
    part = np.full(len(order), TRAIN, np.int8)
    part[order[: tested[0]]] = TEST
    part[order[tested[0] : tested[0] + validated[0]]] = VALIDATION
    return part


def _assign_by_user(rows: Rows, section: SplitSection) -> Parts:
    order = np.lexsort((rows.timestamps, rows.users))
    count = np.bincount(rows.users)
    tested, validated = (
        _count_held_out(count, section)
        if section.method == "temporal_user"
        else _count_last_rows(count, section.k or 1)
    )
    users = rows.users[order]
    # Rows in time order of each user, counted from the user's end: 1 is the user's last row.
    from_end = np.cumsum(count)[users] - np.arange(len(order))
    part = np.full(len(order), TRAIN, np.int8)
    part[order[from_end <= (tested + validated)[users]]] = VALIDATION
    part[order[from_end <= tested[users]]] = TEST
    return part


def _count_held_out(count: Index, section: SplitSection) -> tuple[Index, Index]:
    """Return the numbers of test and validation rows for groups of `count` rows, rounded as `round` does."""
    tested = np.round(section.test * count).astype(np.intp)
    if section.validation == "test":
        return tested, np.zeros_like(tested)
    return tested, np.round(section.validation * (count - tested)).astype(np.intp)


def _count_last_rows(count: Index, k: int) -> tuple[Index, Index]:
    """Return the numbers of test and validation rows of users with `count` rows: k each, but never the first row."""
    spare = np.maximum(count - 1, 0)
    tested = np.minimum(k, spare)
    return tested, np.minimum(k, spare - tested)


def _read_column(interactions: Interactions) -> Parts:
    if interactions.part is None:
        raise MalformedData('[split] method = "column" needs a table with such a column', "use another method")
    return interactions.part


def _require_times(rows: Rows, section: SplitSection) -> None:
    if len(rows) > 1 and rows.timestamps.min() == rows.timestamps.max():
        raise MalformedData(
            f'[split] method = "{section.method}" needs times, but all rows have the same time or none',
            'name the column of times under [data]: columns = { timestamp = "..." }, or use method = "random"',
        )


@dataclass(frozen=True, eq=False)
class Split:
    """The rows to train, validate and test on, disjoint and in the table's order, with one encoding of the ids.

    Attributes:
        user_ids: `[U]` as in `Interactions`.
        item_ids: `[I]`.
        catalogue: `[C]` sorted codes of the items that are ranked: the items file, else the items of the training side
            (all rows but test).
        train, validation, test: rows; the last two are one object if the definition says `validation = "test"`.
        fingerprint: SHA-256 (hex) of the rows of each part and the catalogue.
        titles: `[I]` as in `Interactions`.
        tasks: what is learnt from the rows.
        set_aside: validation rows of the users that `validation_users` did not draw, on which no trial is evaluated;
            None if `validation` has the rows of all users.
    """

    user_ids: Ids
    item_ids: Ids
    catalogue: Codes
    train: Rows
    validation: Rows
    test: Rows
    fingerprint: str
    titles: Ids | None = None
    set_aside: Rows | None = None
    tasks: tuple[Task, ...] = make_tasks({})

    @cached_property
    def drawn_from(self) -> int | None:
        """Number of users from whom those of `validation` were drawn; None if `validation` has all of them."""
        if self.set_aside is None:
            return None
        return self.validation_users + len(np.unique(self.set_aside.users))

    @property
    def validation_users(self) -> int:
        """Number of users in `validation`."""
        return len(np.unique(self.validation.users))

    @cached_property
    def known_users(self) -> NDArray[np.bool_]:
        """`[U]` True for each user with a training row."""
        return np.bincount(self.train.users, minlength=len(self.user_ids)) > 0

    @cached_property
    def known_items(self) -> NDArray[np.bool_]:
        """`[I]` True for each item with a training row."""
        return np.bincount(self.train.items, minlength=len(self.item_ids)) > 0

    @cached_property
    def candidates(self) -> Codes:
        """Sorted codes of the items of a full softmax: the catalogue and all other items with training rows."""
        return np.union1d(self.catalogue, self.train.items).astype(np.int32)

    @cached_property
    def task_rows(self) -> dict[str, int]:
        """Number of training rows that serve each task, by its name."""
        return {task.name: self.train.count_serving(task) for task in self.tasks}

    def of_task(self, task: Task) -> Self:
        """Return the split with only the rows that serve a task, its target as their ratings; see `Rows.serving`.

        Ids, codes and the catalogue stay those of all tasks.
        """
        train, validation = self.train.serving(task), self.validation.serving(task)
        test = validation if self.test is self.validation else self.test.serving(task)
        set_aside = None if self.set_aside is None else self.set_aside.serving(task)
        return replace(self, train=train, validation=validation, test=test, set_aside=set_aside, tasks=(task,))

    def task(self, name: str) -> Task:
        """Return a task by its name."""
        return next(task for task in self.tasks if task.name == name)

    def final(self) -> Self:
        """Return the split for the final test: train and all validation rows to train on, test to validate on.

        It equals, with its fingerprint, the split that `validation = "test"` makes of the same table and seed; such a
        split is returned unchanged.
        """
        if self.validation is self.test:
            return self
        train = _join_rows(self.train, self.validation, *([] if self.set_aside is None else [self.set_aside]))
        fingerprint = _fingerprint(self.user_ids, self.item_ids, self.catalogue, (train, self.test, self.test))
        return replace(self, train=train, validation=self.test, fingerprint=fingerprint, set_aside=None)


def make_split(
    interactions: Interactions, section: SplitSection, tasks: Mapping[str, TaskSection] | None = None
) -> Split:
    """Split the rows of a table; the same table and section give the same split on every machine.

    Args:
        interactions: the table of N rows.
        section: test gets `round(test * N)` rows, validation `round(validation * rest)`, train all others; validation
            rows of users that `validation_users` does not draw are set aside.
        tasks: of the study file; None for the tutorial's two.

    Raises:
        MalformedData: a part would get no row, or the method needs times or a column that the table does not have.
    """
    part = partition(interactions, section)
    train, validation, test = (interactions.rows.take(np.flatnonzero(part == each)) for each in range(3))
    if section.validation == "test":
        validation = test
    parts = [train, validation, test]
    if not all(map(len, parts)):
        raise MalformedData(
            f"{len(interactions.rows)} ratings give {len(train)} to train, {len(validation)} to validate "
            f"and {len(test)} to test on",
            "use more ratings or change [split]",
        )
    learnt = train.items if validation is test else np.append(train.items, validation.items)
    drawn = _draw_users(validation.users, section)
    if drawn is not None:
        parts[1:] = validation.take(np.flatnonzero(drawn)), test, validation.take(np.flatnonzero(~drawn))
    split = _make_split(interactions, parts, learnt, make_tasks(tasks or {}))
    _require_rows_of_tasks(split)
    return split


def _require_rows_of_tasks(split: Split) -> None:
    """Refuse a split that leaves a task without rows to learn from or to be judged on."""
    for task in split.tasks:
        for name in ("train", "validation", "test"):
            if not len(getattr(split, name).serving(task)):
                verb = {"train": "train", "validation": "validate", "test": "test"}[name]
                raise MalformedData(
                    f"task {task.name} has no rows to {verb} on",
                    "change [split], or name another column of ratings under [data]"
                    if _is_tutorial(split)
                    else f"change [split], or `where` and `target` of [tasks.{task.name}]",
                )


def undivided(interactions: Interactions, tasks: tuple[Task, ...] = make_tasks({})) -> Split:
    """Return a split with all rows to train on, for a final model that is not evaluated any more."""
    none = interactions.rows.take(np.arange(0))
    parts = [interactions.rows, none, none]
    return _make_split(interactions, parts, interactions.rows.items, tasks)


def _draw_users(users: Codes, section: SplitSection) -> NDArray[np.bool_] | None:
    """Return `[N]`, True for each validation row of a drawn user; None if all users are drawn.

    The first users of one shuffle are drawn, so that a smaller sample is part of a larger one.
    """
    having = np.unique(users)
    if section.validation_users is None or section.validation_users >= len(having):
        return None
    # NOTE: a separate random stream, so that the users do not depend on the rows that the seed drew; RandomState is
    # frozen, see `partition`.
    shuffled = np.random.RandomState([section.seed, 1]).permutation(having)
    return np.isin(users, shuffled[: section.validation_users])


def _make_split(interactions: Interactions, parts: Sequence[Rows], learnt: Codes, tasks: tuple[Task, ...]) -> Split:
    """Make a split of its parts: train, validation, test and, if there are some, the rows that are set aside.

    The catalogue is that of the items file, else the items that are `learnt`.
    """
    user_ids, item_ids = interactions.user_ids, interactions.item_ids
    catalogue = np.unique(learnt) if interactions.catalogue is None else interactions.catalogue
    fingerprint = _fingerprint(user_ids, item_ids, catalogue, parts)
    train, validation, test, *set_aside = parts
    titles = interactions.titles
    aside = set_aside[0] if set_aside else None
    return Split(user_ids, item_ids, catalogue, train, validation, test, fingerprint, titles, aside, tasks)


def _join_rows(*parts: Rows) -> Rows:
    columns = zip(*(part.columns for part in parts), strict=True)
    return parts[0].with_columns([np.concatenate(each) for each in columns]).sorted()


def _fingerprint(user_ids: Ids, item_ids: Ids, catalogue: Codes, parts: Sequence[Rows]) -> str:
    table = digest(user_ids, item_ids, parts)
    return hashlib.sha256(f"mtsearch split 1\n{table}\n".encode() + id_bytes(item_ids[catalogue])).hexdigest()


def _is_tutorial(split: Split) -> bool:
    return split.tasks == make_tasks({})


def _describe_tasks(split: Split) -> dict[str, Any]:
    """Count the rows that serve each task, and those of its validation rows whose pair it, or any task, trains on."""
    told: dict[str, Any] = {}
    for task in split.tasks:
        own = split.of_task(task)
        told[task.name] = {
            "kind": task.kind,
            **{name: len(getattr(own, name)) for name in ("train", "validation", "test")},
            "validation_pairs_in_train": count_shared_pairs(own.train, own.validation),
            "validation_pairs_in_train_of_any": count_shared_pairs(split.train, own.validation),
            **({} if task.kind == "retrieval" else {"mean": float(own.train.ratings.mean(dtype=np.float64))}),
        }
    return told


def count_shared_pairs(rows: Rows, others: Rows) -> int:
    """Count the rows of `others` whose user and item have a row in `rows`; both are sorted, and `rows` has some.

    NOTE: 2 of 18 million rows are sought in 0.2 CPU s on one core; `np.isin`, which sorts them all again, takes 39.
    """
    keys, sought = (each.users.astype(np.int64) << 32 | each.items for each in (rows, others))
    return int(np.count_nonzero(keys[np.minimum(np.searchsorted(keys, sought), len(keys) - 1)] == sought))


_HISTOGRAM_BARS = 10


def describe(interactions: Interactions, split: Split) -> dict[str, Any]:
    """Describe a table and its split as plain values: rows, ids, density, ratings, dates, and each part of the split.

    Cold users and items have no training row. The density is the share of all pairs of a user and an item that have a
    row. If validation users were drawn, the rows of the others are `set_aside`.
    """
    rows, report = interactions.rows, interactions.report
    pairs = _count_pairs(interactions)
    users, items = np.unique(rows.users), np.unique(rows.items)
    return {
        "read": {
            "columns": dict(report.columns),
            "ignored": list(report.ignored),
            "feedback": report.feedback,
            "times": report.time_unit,
            "rows": report.rows,
            "treated": dict(report.counts),
        },
        "rows": len(rows),
        "users": len(users),
        "items": len(items),
        "catalogue": len(split.catalogue),
        "titles": interactions.titles is not None,
        "density": pairs / (len(users) * len(items)),
        "repeated_pairs": len(rows) - pairs,
        "sample": _sample(interactions, split.tasks),
        "ratings": _describe_ratings(rows),
        "without_rating": int(np.isnan(rows.ratings).sum()),
        **({} if _is_tutorial(split) else {"tasks": _describe_tasks(split)}),
        "dates": _describe_dates(rows) if report.time_unit else None,
        "split": {
            "train": {"rows": len(split.train)},
            "validation": _describe_part(split, split.validation),
            **({} if split.set_aside is None else {"set_aside": _describe_part(split, split.set_aside)}),
            "test": _describe_part(split, split.test),
        },
    }


_SAMPLE_ROWS = 5


def _sample(interactions: Interactions, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Return some rows as plain values: the first ones, with the target of each task that a row serves."""
    rows = interactions.rows.take(np.arange(min(_SAMPLE_ROWS, len(interactions.rows))))
    users, items = interactions.user_ids[rows.users], interactions.item_ids[rows.items]
    times = [_as_date(each) if interactions.report.time_unit else None for each in rows.timestamps.tolist()]
    ratings = [None if np.isnan(rating) else rating for rating in rows.ratings.tolist()]
    columns = users.tolist(), items.tolist(), ratings, times
    sample = [dict(zip(("user", "item", "rating", "time"), row, strict=True)) for row in zip(*columns, strict=True)]
    if tuple(tasks) == make_tasks({}):
        return sample
    targets = {task.name: rows.target(task).tolist() for task in tasks}
    of_tasks = [{name: values[row] for name, values in targets.items()} for row in range(len(rows))]
    return [
        {**row, "tasks": {name: value for name, value in each.items() if not np.isnan(value)}}
        for row, each in zip(sample, of_tasks, strict=True)
    ]


def _count_pairs(interactions: Interactions) -> int:
    rows = interactions.rows
    return int(np.count_nonzero((rows.users[1:] != rows.users[:-1]) | (rows.items[1:] != rows.items[:-1]))) + 1


def _describe_ratings(rows: Rows) -> dict[str, Any]:
    ratings = rows.ratings[~np.isnan(rows.ratings)].astype(np.float64)
    return {
        "lowest": float(ratings.min()),
        "highest": float(ratings.max()),
        "mean": float(ratings.mean()),
        "histogram": _histogram(ratings),
    }


def _histogram(ratings: np.ndarray[Any, np.dtype[np.float64]]) -> list[dict[str, float]]:
    """Count the rows of each rating value, or of ten equal ranges if there are more than eleven values."""
    values, counts = np.unique(ratings, return_counts=True)
    if len(values) <= _HISTOGRAM_BARS + 1:
        return [{"low": float(v), "high": float(v), "rows": int(n)} for v, n in zip(values, counts, strict=True)]
    edges = np.linspace(values[0], values[-1], _HISTOGRAM_BARS + 1)
    counts, _ = np.histogram(ratings, edges)
    return [
        {"low": float(low), "high": float(high), "rows": int(n)}
        for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def _describe_dates(rows: Rows) -> dict[str, str]:
    ends = {"first": rows.timestamps.min(), "last": rows.timestamps.max()}
    return {name: _as_date(int(second)) for name, second in ends.items()}


def _as_date(seconds: int) -> str:
    return str(np.datetime64(seconds, "s"))


def _describe_part(split: Split, part: Rows) -> dict[str, int]:
    cold_user, cold_item = ~split.known_users[part.users], ~split.known_items[part.items]
    return {
        "rows": len(part),
        "cold_users": len(np.unique(part.users[cold_user])),
        "rows_of_cold_users": int(cold_user.sum()),
        "cold_items": len(np.unique(part.items[cold_item])),
        "rows_of_cold_items": int(cold_item.sum()),
        "rows_outside_catalogue": int((~np.isin(part.items, split.catalogue)).sum()),
    }

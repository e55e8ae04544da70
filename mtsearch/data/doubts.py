"""Warn of what a table may mean other than how it was read, each time with the line that would change it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtsearch.data.interactions import Task, make_tasks
from mtsearch.data.split import Split, count_shared_pairs
from mtsearch.text import quote, shorten_middle

if TYPE_CHECKING:
    from mtsearch.study_file.sections import SplitSection

logger = logging.getLogger("mtsearch")

_KINDS = re.compile(
    r"(event|action|behaviou?r|interaction|feedback|activity)(_?type|_?name)?|type|"
    r"(is_?)?(click(ed)?|like[ds]?|purchased?|bought|view(ed)?|label|follow|share|favou?rite|positive)",
    re.IGNORECASE,
)
_MOST_KINDS = 20
_NOT_RATED = (-999.0, -99.0, -1.0, 0.0, 99.0, 999.0)
_MOST_RATINGS = 200


def warn_of_kinds(names: Sequence[str], read: Callable[[str], pa.ChunkedArray]) -> None:
    """Warn of a column that is not used and says what kind of event a row is, since all rows count alike.

    Args:
        names: the columns that are not used.
        read: reads one of them.
    """
    for name in filter(_KINDS.fullmatch, names):
        counted = pc.value_counts(read(name).combine_chunks().drop_null())
        kinds = sorted(((each["counts"], str(each["values"])) for each in counted.to_pylist()), reverse=True)
        if not 2 <= len(kinds) <= _MOST_KINDS:
            continue
        total = sum(count for count, _ in kinds)
        shares = ", ".join(f"{quote(kind)} {count / total:.0%}" for count, kind in kinds)
        one = "1" if {kind for _, kind in kinds} <= {"0", "1", "0.0", "1.0", "true", "false"} else f"'{kinds[0][1]}'"
        logger.warning(
            "data: column %r is not used, so that rows of all its values count alike: %s; to read one of them, write "
            'where = "%s = %s" under [data], or, to learn each as a task, in tables such as [tasks.first]',
            name,
            shorten_middle(shares),
            name if name.isidentifier() else f'\\"{name}\\"',
            one,
        )


def warn_of_codes(ratings: NDArray[np.float64]) -> None:
    """Warn of a lowest or highest rating that seems to mean "not rated": far from the others, or half of all rows."""
    values, counts = np.unique(ratings[np.isfinite(ratings)], return_counts=True)
    if not 3 <= len(values) <= _MOST_RATINGS:
        return
    steps = np.diff(values)
    for code, own, others in ((values[0], steps[0], steps[1:]), (values[-1], steps[-1], steps[:-1])):
        share = counts[values == code][0] / counts.sum()
        is_far = own > 1.5 * others.max()
        if code in _NOT_RATED and (is_far or share >= 1 / 2):
            rest = values[values != code]
            logger.warning(
                'data: the rating %g of %.1f %% of the rows may mean "not rated", the others are %g to %g; if so write '
                'rating_range = [%g, %g] and out_of_range = "drop" under [data], else rating_range = [%g, %g]',
                code, 100 * share, rest[0], rest[-1], rest[0], rest[-1], values[0], values[-1],
            )  # fmt: skip


_TOLD_SHARE = 0.01


def tell_of_split(split: Split, section: SplitSection) -> None:
    """Warn of validation rows whose pair of user and item is trained on too, and tell of the tasks and of strangers.

    A model that has seen a pair in training finds it again, and the metrics are better than for new pairs.
    """
    rows = split.validation
    if not len(rows):
        return
    if has_tasks := split.tasks != make_tasks({}):
        for task in split.tasks:
            _tell_of_task(split.of_task(task), task)
    if section.method == "random" and section.group is None:
        seen = count_shared_pairs(split.train, rows) / len(rows)
        if seen >= _TOLD_SHARE:
            logger.warning(
                "data: %.1f %% of the validation rows have a pair of user and item that the training rows have too, "
                'which makes them easy; write group = "pair" under [split] to keep the rows of a pair together%s',
                100 * seen,
                "" if has_tasks else ', or duplicates = "last" under [data] for one row of each pair',
            )
    strangers = ~(split.known_users[rows.users] & split.known_items[rows.items])
    if (share := float(strangers.mean())) >= _TOLD_SHARE:
        logger.info("data: %.1f %% of the validation rows are of users or items without training rows", 100 * share)


def _tell_of_task(split: Split, task: Task) -> None:
    """Tell how many rows a task has in each part, and warn of a target that never changes.

    Args:
        split: with the rows of the task.
        task: the task.
    """
    parts = {"train": split.train, "validate": split.validation, "test": split.test}
    sizes = ", ".join(f"{len(rows):,} to {verb}" for verb, rows in parts.items())
    pairs = count_shared_pairs(split.train, split.validation)
    logger.info("data: task %s has %s; %s to validate have a pair that it trains on", task.name, sizes, f"{pairs:,}")
    if task.kind == "retrieval":
        return
    for name, rows in (("training", split.train), ("validation", split.validation)):
        if rows.ratings.min() == rows.ratings.max():
            logger.warning(
                "data: the target of [tasks.%s] is %g in all its %s rows, so that %s",
                task.name,
                rows.ratings[0],
                name,
                "there is nothing to learn" if name == "training" else "no metric tells good models from bad ones",
            )

"""Which part each row of a table belongs to: at random, by time, or as a column says."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Interactions, Rows
from mtsearch.errors import MalformedData

if TYPE_CHECKING:
    from mtsearch.definition import SplitSection

TRAIN, VALIDATION, TEST = 0, 1, 2
WITHOUT_TIMES = ("random", "column")
"""Methods that read no times."""

Parts = NDArray[np.int8]
Index = NDArray[np.intp]


def partition(interactions: Interactions, section: "SplitSection") -> Parts:
    """`[N]` TRAIN, VALIDATION or TEST; where the section validates on test, all but that is TRAIN.

    Of one time, rows stand in the order of the table.

    Raises:
        MalformedData: a division by time of rows without times, or by a column that was not read.
    """
    rows, validates_on_test = interactions.rows, section.validation == "test"
    if section.method == "column":
        part = _by_column(interactions)
    elif section.method == "random":
        # NOTE: RandomState is frozen by NumPy's policy (NEP 19); default_rng may change its stream with a release.
        part = _by_share(np.random.RandomState(section.seed).permutation(len(rows)), section)
    elif section.method == "temporal":
        _require_times(rows, section)
        latest_first = np.argsort(rows.timestamps, kind="stable")[::-1]
        part = _by_share(latest_first, section)
    else:
        _require_times(rows, section)
        part = _by_user(rows, section)
    return np.where(part == VALIDATION, np.int8(TRAIN), part) if validates_on_test else part


def _by_share(order: Index, section: "SplitSection") -> Parts:
    """The first to test on, the next to validate on, the rest to train on."""
    tested, validated = _sizes(np.array([len(order)]), section)
    part = np.full(len(order), TRAIN, np.int8)
    part[order[: tested[0]]] = TEST
    part[order[tested[0] : tested[0] + validated[0]]] = VALIDATION
    return part


def _by_user(rows: Rows, section: "SplitSection") -> Parts:
    order = np.lexsort((rows.timestamps, rows.users))
    count = np.bincount(rows.users)
    tested, validated = _sizes(count, section) if section.method == "temporal_user" else _last(count, section.k or 1)
    users = rows.users[order]
    from_end = np.cumsum(count)[users] - np.arange(len(order))  # 1 for the last row of a user
    part = np.full(len(order), TRAIN, np.int8)
    part[order[from_end <= (tested + validated)[users]]] = VALIDATION
    part[order[from_end <= tested[users]]] = TEST
    return part


def _sizes(count: Index, section: "SplitSection") -> tuple[Index, Index]:
    """How many of so many rows are tested and validated on, rounded as `round` does."""
    tested = np.round(section.test * count).astype(np.intp)
    if section.validation == "test":
        return tested, np.zeros_like(tested)
    return tested, np.round(section.validation * (count - tested)).astype(np.intp)


def _last(count: Index, k: int) -> tuple[Index, Index]:
    """The last k and the k before, of users of so many rows; the first row of each is left."""
    spare = np.maximum(count - 1, 0)
    tested = np.minimum(k, spare)
    return tested, np.minimum(k, spare - tested)


def _by_column(interactions: Interactions) -> Parts:
    if interactions.part is None:
        raise MalformedData('[split] method = "column" asks for a table with such a column', "take another method")
    return interactions.part


def _require_times(rows: Rows, section: "SplitSection") -> None:
    if len(rows) > 1 and rows.timestamps.min() == rows.timestamps.max():
        raise MalformedData(
            f'[split] method = "{section.method}" asks for times, and all rows have the same or none',
            'name the column of times under [data]: columns = { timestamp = "..." }, or take method = "random"',
        )

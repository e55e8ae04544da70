"""What becomes of rows that cannot be used as they are, and of ratings that are none: as the study file says."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Ids, Interactions, Rows, canonical_order, used_ids
from mtsearch.data.reading import Reading
from mtsearch.errors import MalformedData

if TYPE_CHECKING:
    from mtsearch.definition import DataSection

Reals = NDArray[np.float64]
Mask = NDArray[np.bool_]

READ_TIMES = ("drop", "last", "mean")
"""What treats rows of a user and an item that have several by their times, or keeps a time of theirs."""

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Raw:
    """N rows as a source has them, in its order.

    Attributes:
        user_ids, item_ids: unique, sorted by code point; ids without a row are allowed.
        users, items: `[N]` codes.
        ratings: `[N]`, in the units of the source; infinite ones may be among them, NaN may not.
        timestamps: `[N]` seconds since 1970.
        part: as in `Interactions`.
        place: what to call a row in a message.
    """

    user_ids: Ids
    item_ids: Ids
    users: Codes
    items: Codes
    ratings: Reals
    timestamps: NDArray[np.int64]
    part: NDArray[np.int8] | None
    place: Callable[[int], str]

    def take(self, index: NDArray[np.intp]) -> Self:
        """The rows at `index`, in its order."""
        return replace(
            self,
            users=self.users[index],
            items=self.items[index],
            ratings=self.ratings[index],
            timestamps=self.timestamps[index],
            part=None if self.part is None else self.part[index],
            place=lambda row: self.place(int(index[row])),
        )

    def refuse(self, row: int, problem: str, remedy: str) -> NoReturn:
        """Raise MalformedData for a row."""
        raise MalformedData(f"{self.place(row)}: {problem}", remedy)


def clean(raw: Raw, section: "DataSection", reading: Reading) -> Interactions:
    """The canonical table of what is left; its reading says what became of the rest.

    Raises:
        MalformedData: nothing is left, or the section says that such rows are an error.
    """
    counts = dict(reading.counts)
    raw = _within_range(raw, section, counts)
    if reading.feedback != "explicit":
        raw = _implicit(raw, reading.feedback, counts)
    if not len(raw.users):
        raise MalformedData(f"{section.source} has no rows" + (" left" if reading.rows else ""), "name another source")
    raw = _single(raw.take(_order(raw, section.duplicates)), section.duplicates, counts)
    user_ids, users = used_ids(raw.user_ids, raw.users)
    item_ids, items = used_ids(raw.item_ids, raw.items)
    rows = Rows(users, items, _float32(raw.ratings), raw.timestamps)
    counts = {what: count for what, count in counts.items() if count}
    return Interactions(user_ids, item_ids, rows, part=raw.part, reading=replace(reading, counts=counts))


def _float32(ratings: Reals) -> NDArray[np.float32]:
    # NOTE: adding 0 turns -0.0 into 0.0, as in `Interactions.from_columns`.
    return ratings.astype(np.float32) + np.float32(0)


def _order(raw: Raw, duplicates: str) -> NDArray[np.intp]:
    """The canonical one; rows that are equal in all of it by their part."""
    if duplicates == "last":
        # NOTE: of one time the last in a table is kept, so that its order stays; one row of each pair is left.
        return canonical_order(raw.users, raw.items, raw.timestamps)
    part = () if raw.part is None else (raw.part,)
    return canonical_order(raw.users, raw.items, raw.timestamps, _float32(raw.ratings), *part)


def _within_range(raw: Raw, section: "DataSection", counts: dict[str, int]) -> Raw:
    low, high = section.rating_range or (-_LARGEST, _LARGEST)
    outside = ~((raw.ratings >= low) & (raw.ratings <= high))
    if not outside.any():
        return raw
    if section.out_of_range == "error":
        row = int(np.argmax(outside))
        told = f"outside rating_range = [{low}, {high}]" if section.rating_range else "not finite, or beyond float32"
        remedy = '`out_of_range = "drop"` under [data] leaves it out'
        raw.refuse(row, f"the rating {raw.ratings[row]:g} is {told}", remedy)
    if section.out_of_range == "clip":
        counts["ratings out of range clipped"] = int(outside.sum())
        return replace(raw, ratings=np.clip(raw.ratings, low, high))
    counts["rows with a rating out of range dropped"] = int(outside.sum())
    return raw.take(np.flatnonzero(~outside))


def _implicit(raw: Raw, feedback: str, counts: dict[str, int]) -> Raw:
    """1 for each row, or log(1 + count); rows that say 0 times are no interactions."""
    negative = raw.ratings < 0
    if negative.any():
        row = int(np.argmax(negative))
        raw.refuse(
            row,
            f"{raw.ratings[row]:g} is no number of times, which feedback = {feedback!r} reads",
            'write 0 or more, or feedback = "explicit"',
        )
    counts[f"rows of 0 left out ({feedback} feedback)"] = int((raw.ratings == 0).sum())
    raw = raw.take(np.flatnonzero(raw.ratings))
    return replace(raw, ratings=np.ones(len(raw.users)) if feedback == "binary" else np.log1p(raw.ratings))


def _single(raw: Raw, how: str, counts: dict[str, int]) -> Raw:
    """Rows of a user and an item that have several, treated; `raw` is sorted."""
    again = _repeats(raw.users, raw.items)
    repeated = int(again.sum())
    if not repeated:
        return raw
    if how == "error":
        row = int(np.argmax(again))
        user, item = raw.user_ids[raw.users[row]], raw.item_ids[raw.items[row]]
        raw.refuse(
            row,
            f"user {user!r} has item {item!r} a second time (the other is {raw.place(row - 1)})",
            '`duplicates = "last"` under [data] keeps one',
        )
    if how == "keep":
        counts["rows of a user and an item that had one already, kept"] = repeated
        return raw
    if how == "drop":
        again = _repeats(raw.users, raw.items, raw.timestamps, _float32(raw.ratings))
        counts["exact copies of a row dropped"] = int(again.sum())
        return raw.take(np.flatnonzero(~again))
    first = np.flatnonzero(~again)
    last = np.append(first[1:], len(again)) - 1
    counts[f"rows of a user and an item that had one already, {_MERGED[how]}"] = repeated
    merged = raw.take(last)
    if how == "last":
        return merged
    # NOTE: divided before it is added, so that no sum overflows.
    share = raw.ratings / np.repeat(last - first + 1, last - first + 1)
    return replace(merged, ratings=np.add.reduceat(share, first))


_MERGED = {"last": "of which the last is kept", "mean": "made one with the mean rating"}


def as_raw(interactions: Interactions) -> Raw:
    """A table that was read as rows that are still to be cleaned."""
    rows, users, items = interactions.rows, interactions.user_ids, interactions.item_ids
    return Raw(
        users,
        items,
        rows.users,
        rows.items,
        rows.ratings.astype(np.float64),
        rows.timestamps,
        None,
        lambda row: f"user {users[rows.users[row]]!r} and item {items[rows.items[row]]!r}",
    )


def _repeats(*columns: NDArray[np.generic]) -> Mask:
    """`[N]` True where a row of sorted columns equals the one before."""
    again: Mask = np.zeros(len(columns[0]), np.bool_)
    if len(again):
        again[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    return again

"""Treat rows that are out of range or duplicates, and convert implicit feedback, as the study file asks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Ids, Interactions, ReadReport, Rows, canonical_order, used_ids
from mtsearch.errors import MalformedData

if TYPE_CHECKING:
    from mtsearch.study_file.sections import DataSection

Reals = NDArray[np.float64]
Mask = NDArray[np.bool_]

NEED_TIMES = ("drop", "last", "mean")
"""Ways to treat duplicates that use the times of the rows."""

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class RawRows:
    """N rows as a source has them, before cleaning and in the source's order.

    Attributes:
        user_ids, item_ids: unique, sorted by code point; ids without a row are allowed.
        users, items: `[N]` codes, each the index of an id.
        ratings: `[N]`, in the units of the source; may be infinite, and NaN where a row has none.
        timestamps: `[N]` seconds since 1970.
        part: as in `Interactions`.
        place: gives the name of a row for a message.
        targets, weights: as in `Rows`.
        rated: numbers of the targets that are ratings of some rows, and are cleaned with the ratings.
    """

    user_ids: Ids
    item_ids: Ids
    users: Codes
    items: Codes
    ratings: Reals
    timestamps: NDArray[np.int64]
    part: NDArray[np.int8] | None
    place: Callable[[int], str]
    targets: tuple[Reals, ...] = ()
    weights: Reals | None = None
    rated: tuple[int, ...] = ()

    def with_ratings(self, ratings: Reals) -> Self:
        """Return the rows with other ratings, also in the targets that are ratings."""
        targets = [
            np.where(np.isnan(target), np.nan, ratings) if number in self.rated else target
            for number, target in enumerate(self.targets)
        ]
        return replace(self, ratings=ratings, targets=tuple(targets))

    def take(self, index: NDArray[np.intp]) -> Self:
        """Return the rows at `index`, in its order."""
        return replace(
            self,
            users=self.users[index],
            items=self.items[index],
            ratings=self.ratings[index],
            timestamps=self.timestamps[index],
            part=None if self.part is None else self.part[index],
            place=lambda row: self.place(int(index[row])),
            targets=tuple(target[index] for target in self.targets),
            weights=None if self.weights is None else self.weights[index],
        )

    def further(self) -> list[NDArray[np.float32]]:
        """Return targets and weights as the table has them."""
        return [_to_float32(each) for each in (*self.targets, *(() if self.weights is None else (self.weights,)))]

    def refuse(self, row: int, problem: str, remedy: str) -> NoReturn:
        """Raise MalformedData with the file and the line of a row."""
        raise MalformedData(f"{self.place(row)}: {problem}", remedy)


def clean(raw: RawRows, section: "DataSection", report: ReadReport) -> Interactions:
    """Return the canonical table of the rows that are left; its report counts the rows that were treated.

    Args:
        raw: rows of the source.
        section: how rows out of range and duplicates are treated.
        report: report of the source so far.

    Raises:
        MalformedData: no row is left, or the section says that such rows are an error.
    """
    counts = dict(report.counts)
    raw = _treat_out_of_range(raw, section, counts)
    if report.feedback != "explicit":
        raw = _convert_implicit(raw, report.feedback, counts)
    if not len(raw.users):
        left = " left after cleaning" if report.rows else ""
        raise MalformedData(f"{section.origin} has no rows{left}", "name another source")
    raw = _treat_duplicates(raw.take(_find_order(raw, section.duplicates)), section.duplicates, counts)
    user_ids, users = used_ids(raw.user_ids, raw.users)
    item_ids, items = used_ids(raw.item_ids, raw.items)
    targets, weights = raw.further(), None
    if raw.weights is not None:
        weights = targets.pop()
    rows = Rows(users, items, _to_float32(raw.ratings), raw.timestamps, tuple(targets), weights)
    counts["rows without a rating, which serve the other tasks"] = int(np.isnan(raw.ratings).sum())
    counts = {what: count for what, count in counts.items() if count}
    return Interactions(user_ids, item_ids, rows, part=raw.part, report=replace(report, counts=counts))


def _to_float32(ratings: Reals) -> NDArray[np.float32]:
    # NOTE: adding 0 turns -0.0 into 0.0, as in `Interactions.from_columns`.
    return ratings.astype(np.float32) + np.float32(0)


def _find_order(raw: RawRows, duplicates: str) -> NDArray[np.intp]:
    """Return the index that sorts rows into the canonical order; equal rows are sorted by their part."""
    if duplicates == "last":
        # NOTE: of rows with one time the last in the table is kept, so they must stay in the table's order. One row of
        # each pair is left, and ratings need not be sorted.
        return canonical_order(raw.users, raw.items, raw.timestamps)
    part = () if raw.part is None else (raw.part,)
    return canonical_order(raw.users, raw.items, raw.timestamps, _to_float32(raw.ratings), *raw.further(), *part)


def _treat_out_of_range(raw: RawRows, section: "DataSection", counts: dict[str, int]) -> RawRows:
    low, high = section.rating_range or (-LARGEST, LARGEST)
    outside = ~((raw.ratings >= low) & (raw.ratings <= high)) & ~np.isnan(raw.ratings)
    if not outside.any():
        return raw
    if section.out_of_range == "error":
        row = int(np.argmax(outside))
        told = f"outside rating_range = [{low}, {high}]" if section.rating_range else "not finite, or beyond float32"
        remedy = 'write `out_of_range = "drop"` under [data] to leave it out'
        raw.refuse(row, f"the rating {raw.ratings[row]:g} is {told}", remedy)
    if section.out_of_range == "clip":
        counts["ratings out of range clipped"] = int(outside.sum())
        return raw.with_ratings(np.clip(raw.ratings, low, high))
    counts["rows with a rating out of range dropped"] = int(outside.sum())
    return raw.take(np.flatnonzero(~outside))


def _convert_implicit(raw: RawRows, feedback: str, counts: dict[str, int]) -> RawRows:
    """Replace ratings by 1, or by log(1 + count); rows with 0 are no interactions and are left out.

    A row of binary feedback without a value does not say yes, and is left out too. A row without a count is an
    interaction whose number is not known.
    """
    negative = raw.ratings < 0
    if negative.any():
        row = int(np.argmax(negative))
        raw.refuse(
            row,
            f"{raw.ratings[row]:g} is negative, but feedback = {feedback!r} needs a number of times",
            'write 0 or more, or feedback = "explicit"',
        )
    counts[f"rows of 0 left out ({feedback} feedback)"] = int((raw.ratings == 0).sum())
    kept = raw.ratings != 0
    if feedback == "binary":
        counts["rows without a value left out (binary feedback)"] = int(np.isnan(raw.ratings).sum())
        kept &= ~np.isnan(raw.ratings)
    raw = raw.take(np.flatnonzero(kept))
    return raw.with_ratings(np.ones(len(raw.users)) if feedback == "binary" else np.log1p(raw.ratings))


def _treat_duplicates(raw: RawRows, how: str, counts: dict[str, int]) -> RawRows:
    """Treat several rows of one user and one item as the study file asks; `raw` must be sorted."""
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
            'write `duplicates = "last"` under [data] to keep one of them',
        )
    if how == "keep":
        counts["rows of a user and an item that had one already, kept"] = repeated
        return raw
    if how == "drop":
        again = _repeats(raw.users, raw.items, raw.timestamps, _to_float32(raw.ratings), *raw.further())
        counts["exact copies of a row dropped"] = int(again.sum())
        return raw.take(np.flatnonzero(~again))
    # Rows of one pair are neighbours: first and last are the ends of each pair's rows.
    first = np.flatnonzero(~again)
    last = np.append(first[1:], len(again)) - 1
    counts[f"rows of a user and an item that had one already, {_KEPT[how]}"] = repeated
    # The one row of a pair serves each task that one of its rows serves, with the last value that is there.
    targets = [
        _mean_known(target, first) if how == "mean" and number in raw.rated else _last_known(target, first)
        for number, target in enumerate(raw.targets)
    ]
    ratings = _mean_known(raw.ratings, first) if how == "mean" else _last_known(raw.ratings, first)
    return replace(raw.take(last), ratings=ratings, targets=tuple(targets))


def _last_known(values: Reals, first: NDArray[np.intp]) -> Reals:
    """Return the last value of each group of neighbours that is not NaN; NaN if there is none.

    Args:
        values: `[N]`.
        first: `[G]` index of the first value of each group.
    """
    places = np.where(np.isnan(values), -1, np.arange(len(values)))
    found = np.maximum.reduceat(places, first)
    known: Reals = np.where(found >= 0, values[found], np.nan)
    return known


def _mean_known(values: Reals, first: NDArray[np.intp]) -> Reals:
    """Return the mean of each group's values that are not NaN; see `_last_known`."""
    known = ~np.isnan(values)
    count = np.add.reduceat(known.astype(np.intp), first)
    # NOTE: values are divided before they are added, so that no sum overflows.
    share = np.where(known, values, 0) / np.maximum(np.repeat(count, np.diff(np.append(first, len(values)))), 1)
    mean: Reals = np.where(count > 0, np.add.reduceat(share, first), np.nan)
    return mean


_KEPT = {"last": "of which the last is kept", "mean": "made one with the mean rating"}


def to_raw(interactions: Interactions) -> RawRows:
    """Convert a canonical table back into rows that can be cleaned."""
    rows, users, items = interactions.rows, interactions.user_ids, interactions.item_ids
    return RawRows(
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
    """Return `[N]`, True for each row of sorted columns that equals the row before."""
    again: Mask = np.zeros(len(columns[0]), np.bool_)
    if len(again):
        again[1:] = np.logical_and.reduce([_equal(column[1:], column[:-1]) for column in columns])
    return again


def _equal(values: NDArray[np.generic], others: NDArray[np.generic]) -> Mask:
    """Compare values; two missing ones are equal."""
    same: Mask = values == others
    return same | (np.isnan(values) & np.isnan(others)) if values.dtype.kind == "f" else same

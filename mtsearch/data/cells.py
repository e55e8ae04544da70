"""Columns of a table as ids, numbers and times: only distinct values are ever converted, never a row at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Ids
from mtsearch.errors import MalformedData
from mtsearch.study_file.mistakes import shown

Mask = NDArray[np.bool_]
Reals = NDArray[np.float64]
MISSING = -1

_NOTHING = ("", "na", "n/a", "nan", "nat", "none", "null")
"""What stands for a number or a time that is not there, in small letters."""

_EXACT = 2**53
_SCALES = ((1e17, 10**9, "nanoseconds"), (1e14, 10**6, "microseconds"), (1e11, 10**3, "milliseconds"))
"""A median beyond the first is counted in the third: in seconds 1e11 would be the year 5138."""


@dataclass(frozen=True)
class Column:
    """A column of a table in one file or several.

    Attributes:
        name: in the file.
        values: all rows, of a plain type: neither dictionary nor view.
        places: the files.
        starts: the row that each begins with, from 0 on.
    """

    name: str
    values: pa.ChunkedArray
    places: Sequence[str]
    starts: Sequence[int]

    def error(self, row: int, problem: str, remedy: str) -> MalformedData:
        """That a row, 0-based over all files, is wrong."""
        return MalformedData(f"{self.at(row)}, column {shown(self.name)}: {problem}", remedy)

    def refuse(self, row: int, problem: str, remedy: str = "mend the row") -> NoReturn:
        """Raise that error."""
        raise self.error(row, problem, remedy) from None

    def at(self, row: int) -> str:
        """The file and the row in it, from 1 on behind the heading."""
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"{self.places[file]}, row {row - self.starts[file] + 1}"


@dataclass(frozen=True)
class _Distinct:
    """A column of text: its distinct values in the order in which they come, and `[N]` which of them a row has."""

    column: Column
    values: pa.Array
    index: Codes

    @classmethod
    def of(cls, column: Column, values: pa.ChunkedArray) -> "_Distinct":
        encoded = values.dictionary_encode().unify_dictionaries().combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], values.type).dictionary_encode()
        index = pc.fill_null(encoded.indices, MISSING).to_numpy().astype(np.int32)
        distinct, raw = encoded.dictionary, pa.large_binary()
        try:
            texts = distinct.cast(raw).cast(pa.large_string())
        except pa.ArrowInvalid:
            bad = _first(distinct, lambda some: some.cast(raw).cast(pa.large_string()))
            row = int(np.argmax(index == bad))
            column.refuse(row, f"{shown(distinct.cast(raw)[bad].as_py())} is not UTF-8", "save the file as UTF-8")
        return cls(column, texts, index)

    def row_of(self, value: int) -> int:
        return int(np.argmax(self.index == value))

    def spread(self, values: NDArray[np.generic], missing: object) -> NDArray[np.generic]:
        """`[N]` what the rows have of one value for each distinct text."""
        return np.append(values, np.array([missing], values.dtype))[self.index]


def ids(column: Column) -> tuple[Ids, Codes]:
    """Unique ids sorted by code point, and `[N]` codes into them; `MISSING` where a row has none, or only blanks.

    Text stays as it is written, less the blanks around it. Whole numbers are written without a point, those that Arrow
    or pandas made floating-point numbers of included.

    Raises:
        MalformedData: a value is no id.
    """
    distinct = _Distinct.of(column, _as_text(column))
    texts = distinct.values
    damaged = pc.index(pc.match_substring(texts, "\0"), True).as_py()
    if damaged >= 0:
        column.refuse(distinct.row_of(damaged), f"{shown(texts[damaged].as_py())} holds a NUL character")
    trimmed = pc.utf8_trim_whitespace(texts).dictionary_encode()  # what differed in blanks alone is one
    texts = trimmed.dictionary
    order = pc.array_sort_indices(texts).to_numpy()
    order = order[~pc.equal(texts, "").to_numpy(zero_copy_only=False)[order]]
    rank = np.full(len(texts), MISSING, np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    unique = np.empty(len(order), np.object_)
    unique[:] = texts.take(pa.array(order)).to_pylist()
    return unique, distinct.spread(rank[trimmed.indices.to_numpy()], MISSING).astype(np.int32)


def _as_text(column: Column) -> pa.ChunkedArray:
    values, kind = column.values, column.values.type
    if pa.types.is_floating(kind):
        return _whole(column, values.cast(pa.float64())).cast(pa.string())
    if pa.types.is_integer(kind) or pa.types.is_null(kind):
        return values.cast(pa.string())
    if _is_text(kind):
        return values
    raise MalformedData(
        f"{column.places[0]}, column {column.name} is of type {kind}", "an id is text or a whole number"
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _whole(column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray:
    numbers = pc.fill_null(values, float("nan")).to_numpy()
    wrong = ~np.isnan(numbers) & ~((np.abs(numbers) <= _EXACT) & (np.floor(numbers) == numbers))
    if wrong.any():
        row = int(np.argmax(wrong))
        column.refuse(row, f"{numbers[row]} is no exact whole number", "write ids as text or whole numbers")
    return pa.chunked_array([pa.array(np.nan_to_num(numbers).astype(np.int64), mask=np.isnan(numbers))])


def numbers(column: Column) -> Reals:
    """`[N]` numbers, NaN where there is none, or text such as NA or null; true and false are 1 and 0.

    Raises:
        MalformedData: a value is no number.
    """
    kind = column.values.type
    if not _is_text(kind):
        return np.asarray(_cast(column, pa.float64()), np.float64)
    distinct = _Distinct.of(column, column.values)
    texts = _present(distinct.values)
    try:
        parsed = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        truths = pc.utf8_lower(texts)
        if not pc.all(pc.is_in(truths.drop_null(), value_set=pa.array(["true", "false"], truths.type))).as_py():
            bad = _first(texts, lambda some: some.cast(pa.float64()))
            column.refuse(distinct.row_of(bad), f"{shown(distinct.values[bad].as_py())} is no number")
        parsed = pc.equal(truths, "true").cast(pa.float64())
    return distinct.spread(_filled(parsed), np.nan).astype(np.float64)


def times(column: Column) -> tuple[NDArray[np.int64], Mask, str]:
    """`[N]` seconds since 1970, `[N]` True where there is none, and what the file counts in.

    Raises:
        MalformedData: a value is no time, or not of the form of the first.
    """
    kind = column.values.type
    if pa.types.is_temporal(kind) and not pa.types.is_time(kind) and not pa.types.is_duration(kind):
        return *_seconds_of(_cast(column, kind)), str(kind)
    if not _is_text(kind):
        return _counted(column, _cast(column, pa.int64() if pa.types.is_integer(kind) else pa.float64()))
    whole = _whole_numbers(column.values)
    if whole is not None:
        return _counted(column, whole)
    distinct = _Distinct.of(column, column.values)
    parsed = _parsed_times(distinct, _present(distinct.values))
    if pa.types.is_timestamp(parsed.type):
        seconds, missing = _seconds_of(parsed)
        unit = "dates"
    else:
        whole = pc.fill_null(parsed, 0).to_numpy(zero_copy_only=False)
        nulls = pc.is_null(parsed).to_numpy(zero_copy_only=False)
        spread = distinct.spread(whole, 0)
        return _scaled(column, spread, distinct.spread(nulls, True).astype(np.bool_))
    return distinct.spread(seconds, 0).astype(np.int64), distinct.spread(missing, True).astype(np.bool_), unit


def _whole_numbers(texts: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The texts as whole numbers, where all are that and nothing is around them.

    NOTE: times are mostly distinct: looking for the distinct ones first took 25 million rows of CSV 9.7 GiB in place
    of 3.3.
    """
    try:
        return texts.cast(pa.string()).cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def _parsed_times(distinct: _Distinct, texts: pa.Array) -> pa.Array:
    """The distinct texts as whole numbers, numbers or dates: what the first one is, all are."""
    # NOTE: a fraction may have the digits of its unit at most, and of nanoseconds there is no year after 2262.
    dates = [pa.timestamp(unit, zone) for unit in ("us", "ns") for zone in (None, "UTC")]
    forms = [pa.int64(), pa.float64(), *dates]
    present = pc.drop_null(texts)
    if not len(present):
        return texts.cast(pa.int64())
    for form in forms:
        try:
            return texts.cast(form)
        except pa.ArrowInvalid:
            continue
    form = next((form for form in reversed(forms) if _casts(present[:1], form)), None)
    if form is None:
        raise _no_time(distinct, pc.index(pc.is_valid(texts), True).as_py(), "no time that is known")
    raise _no_time(distinct, _first(texts, lambda some: some.cast(form)), "no time of the form of the first")


def _no_time(distinct: _Distinct, value: int, told: str) -> MalformedData:
    problem = f"{shown(distinct.values[value].as_py())} is {told}"
    remedy = "write seconds since 1970 or dates such as 2026-01-31 12:00:00"
    return distinct.column.error(distinct.row_of(value), problem, remedy)


def _counted(column: Column, values: pa.ChunkedArray) -> tuple[NDArray[np.int64], Mask, str]:
    return _scaled(column, pc.fill_null(values, 0).to_numpy(), pc.is_null(values).to_numpy())


def _scaled(column: Column, values: NDArray[np.generic], missing: Mask) -> tuple[NDArray[np.int64], Mask, str]:
    """Numbers as seconds: of what they are is told by the size of the median."""
    if values.dtype.kind == "f":
        missing = missing | np.isnan(values.astype(np.float64))
    present = np.abs(values[~missing].astype(np.float64))
    middle = float(np.median(present)) if len(present) else 0.0
    divisor, unit = next(((by, name) for above, by, name in _SCALES if middle > above), (1, "seconds"))
    if values.dtype.kind != "f":
        return values.astype(np.int64) // divisor, missing, f"{unit} since 1970"
    seconds = np.floor(np.where(missing, 0.0, values.astype(np.float64)) / divisor)
    wrong = ~(np.abs(seconds) < 2.0**63)
    if wrong.any():
        row = int(np.argmax(wrong))
        column.refuse(row, f"{values[row]} is beyond all time", "write seconds since 1970")
    return seconds.astype(np.int64), missing, f"{unit} since 1970"


def _seconds_of(values: pa.Array) -> tuple[NDArray[np.int64], Mask]:
    zone = getattr(values.type, "tz", None)
    micros = values.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
    missing = np.asarray(pc.is_null(micros)).astype(np.bool_)
    return np.asarray(pc.fill_null(micros, 0)).astype(np.int64) // 1_000_000, missing


def _cast(column: Column, kind: pa.DataType) -> pa.ChunkedArray:
    values = column.values
    try:
        # NOTE: a safe cast refuses whole numbers that float64 rounds, which is as near as a rating gets.
        return values.cast(kind, safe=not (pa.types.is_integer(values.type) and pa.types.is_floating(kind)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        told = "numbers" if kind != values.type else "times"
        raise MalformedData(
            f"{column.places[0]}, column {column.name} is of type {values.type}", f"it should hold {told}"
        ) from None


def _present(texts: pa.Array) -> pa.Array:
    """Without blanks around, null where what is left is nothing, or stands for it."""
    trimmed = pc.utf8_trim_whitespace(texts)
    nothing = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(_NOTHING, trimmed.type))
    return pc.if_else(nothing, pa.scalar(None, trimmed.type), trimmed)


def _filled(values: pa.Array) -> Reals:
    filled: Reals = pc.fill_null(values, float("nan")).to_numpy(zero_copy_only=False)
    return filled


def _casts(values: pa.Array, kind: pa.DataType) -> bool:
    try:
        values.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _first(values: pa.Array, convert: Callable[[pa.Array], object]) -> int:
    """The first of the values, not all of which can be converted, that cannot."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(values[low:middle])
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low

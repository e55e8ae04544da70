"""Parse the columns of a table as ids, numbers and times; of text columns each distinct value is parsed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Ids
from mtsearch.errors import MalformedData
from mtsearch.text import quote

Mask = NDArray[np.bool_]
Reals = NDArray[np.float64]
MISSING = -1

_MISSING_TEXTS = ("", "na", "n/a", "nan", "nat", "none", "null")
"""Texts, in lower case, that mean a missing number or time."""

_EXACT = 2**53
_SCALES = ((1e17, 10**9, "nanoseconds"), (1e14, 10**6, "microseconds"), (1e11, 10**3, "milliseconds"))
"""Lowest median, divisor and name of each unit of time; in seconds 1e11 would be the year 5138."""


@dataclass(frozen=True)
class Column:
    """A column of a table, which may have several files.

    Attributes:
        name: name in the file.
        values: values of all rows, of a plain type: neither dictionary nor view.
        places: paths of the files.
        starts: first row of each file, from 0 on.
    """

    name: str
    values: pa.ChunkedArray
    places: Sequence[str]
    starts: Sequence[int]

    def error(self, row: int, problem: str, remedy: str) -> MalformedData:
        """Return the error for a wrong value in a row, 0-based over all files."""
        return MalformedData(f"{self.at(row)}, column {quote(self.name)}: {problem}", remedy)

    def refuse(self, row: int, problem: str, remedy: str = "correct the row") -> NoReturn:
        """Raise the error for a wrong value in a row, 0-based over all files."""
        raise self.error(row, problem, remedy) from None

    def at(self, row: int) -> str:
        """Return the file of a row and its number there, counted from 1 below the heading."""
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"{self.places[file]}, row {row - self.starts[file] + 1}"


@dataclass(frozen=True)
class _Distinct:
    """A column of text, as its distinct values in the order of the table and the index of each row's value.

    Attributes:
        column: the column.
        values: distinct texts.
        index: `[N]` index of each row's text in `values`; `MISSING` for none.
    """

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
            bad = _find_first_failure(distinct, lambda some: some.cast(raw).cast(pa.large_string()))
            row = int(np.argmax(index == bad))
            column.refuse(row, f"{quote(distinct.cast(raw)[bad].as_py())} is not UTF-8", "save the file as UTF-8")
        return cls(column, texts, index)

    def find_row(self, value: int) -> int:
        """Return the first row that has a distinct value."""
        return int(np.argmax(self.index == value))

    def spread(self, values: NDArray[np.generic], missing: object) -> NDArray[np.generic]:
        """Return `[N]` the result for each row, given one result for each distinct value."""
        # MISSING is -1, the index of the value that is appended here.
        return np.append(values, np.array([missing], values.dtype))[self.index]


def parse_ids(column: Column) -> tuple[Ids, Codes]:
    """Return the unique ids, sorted by code point, and `[N]` codes into them; `MISSING` for a row without an id.

    Spaces around a text are removed. Whole numbers are written without a point, also those that Arrow or pandas
    converted into floating-point numbers.

    Raises:
        MalformedData: a value is not an id.
    """
    distinct = _Distinct.of(column, _as_text(column))
    texts = distinct.values
    damaged = pc.index(pc.match_substring(texts, "\0"), True).as_py()
    if damaged >= 0:
        column.refuse(distinct.find_row(damaged), f"{quote(texts[damaged].as_py())} has a NUL character")
    trimmed = pc.utf8_trim_whitespace(texts).dictionary_encode()  # texts that differ only in spaces become one
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
        return _to_whole_numbers(column, values.cast(pa.float64())).cast(pa.string())
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


def _to_whole_numbers(column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray:
    numbers = pc.fill_null(values, float("nan")).to_numpy()
    wrong = ~np.isnan(numbers) & ~((np.abs(numbers) <= _EXACT) & (np.floor(numbers) == numbers))
    if wrong.any():
        row = int(np.argmax(wrong))
        column.refuse(row, f"{numbers[row]} is not an exact whole number", "write ids as text or whole numbers")
    return pa.chunked_array([pa.array(np.nan_to_num(numbers).astype(np.int64), mask=np.isnan(numbers))])


def parse_numbers(column: Column, decimal: str = ".") -> Reals:
    """Return `[N]` numbers; NaN for a missing value or a text such as NA or null. True and false are 1 and 0.

    Args:
        column: numbers, or text.
        decimal: decimal sign of a text; with a comma, points between thousands are left out.

    Raises:
        MalformedData: a value is not a number.
    """
    kind = column.values.type
    if not _is_text(kind):
        return np.asarray(_cast(column, pa.float64()), np.float64)
    distinct = _Distinct.of(column, column.values)
    texts = _strip_and_null(distinct.values)
    if decimal == ",":
        texts = pc.replace_substring(pc.replace_substring(texts, ".", ""), ",", ".")
    try:
        parsed = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        truths = pc.utf8_lower(texts)
        if not pc.all(pc.is_in(truths.drop_null(), value_set=pa.array(["true", "false"], truths.type))).as_py():
            bad = _find_first_failure(texts, lambda some: some.cast(pa.float64()))
            column.refuse(distinct.find_row(bad), f"{quote(distinct.values[bad].as_py())} is not a number")
        parsed = pc.equal(truths, "true").cast(pa.float64())
    return distinct.spread(_fill_with_nan(parsed), np.nan).astype(np.float64)


def parse_times(column: Column) -> tuple[NDArray[np.int64], Mask, str]:
    """Return `[N]` seconds since 1970, `[N]` True for each missing time, and the name of the file's unit.

    Raises:
        MalformedData: a value is not a time, or does not have the form of the first one.
    """
    kind = column.values.type
    if pa.types.is_temporal(kind) and not pa.types.is_time(kind) and not pa.types.is_duration(kind):
        return *_dates_to_seconds(_cast(column, kind)), str(kind)
    if not _is_text(kind):
        return _numbers_to_seconds(column, _cast(column, pa.int64() if pa.types.is_integer(kind) else pa.float64()))
    whole = _cast_whole_numbers(column.values)
    if whole is not None:
        return _numbers_to_seconds(column, whole)
    # Not all are whole numbers: parse the distinct texts as fractional numbers or dates.
    distinct = _Distinct.of(column, column.values)
    texts = pc.replace_substring_regex(_strip_and_null(distinct.values), " (UTC|GMT)$", "")
    parsed = _cast_times(distinct, texts)
    if pa.types.is_timestamp(parsed.type):
        seconds, missing = _dates_to_seconds(parsed)
        unit = "dates"
    else:
        whole = pc.fill_null(parsed, 0).to_numpy(zero_copy_only=False)
        nulls = pc.is_null(parsed).to_numpy(zero_copy_only=False)
        spread = distinct.spread(whole, 0)
        return _scale_to_seconds(column, spread, distinct.spread(nulls, True).astype(np.bool_))
    return distinct.spread(seconds, 0).astype(np.int64), distinct.spread(missing, True).astype(np.bool_), unit


def _cast_whole_numbers(texts: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Convert texts to whole numbers; None if one of them is anything else or has spaces around it.

    NOTE: most times are distinct. With a search for distinct values first, 25 million rows of CSV took 9.7 GiB in place
    of 3.3.
    """
    try:
        return texts.cast(pa.string()).cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def _cast_times(distinct: _Distinct, texts: pa.Array) -> pa.Array:
    """Convert distinct texts to whole numbers, fractional numbers or dates; all must have the form of the first."""
    # NOTE: microseconds allow six digits of a fraction and any year, nanoseconds nine digits and no year after 2262.
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
    written = [each for each in map(partial(_parse_written, texts), _WRITTEN_DATES) if each is not None]
    if len(written) > 1 and not written[0].equals(written[1]):
        row, text = distinct.find_row(0), quote(distinct.values[0].as_py())
        problem = f"{text} may begin with a month or with a day"
        raise distinct.column.error(row, problem, "write dates such as 2026-01-31, or use `query` with strptime")
    if written:
        return written[0]
    form = next((form for form in reversed(forms) if _can_cast(present[:1], form)), None)
    if form is None:
        raise _time_error(distinct, pc.index(pc.is_valid(texts), True).as_py(), "not a time in a known form")
    raise _time_error(
        distinct, _find_first_failure(texts, lambda some: some.cast(form)), "not a time in the form of the first one"
    )


_WRITTEN_DATES = ("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M:%S",
                  "%d/%m/%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d, %Y", "%m %d, %Y",
                  "%Y/%m/%d", "%Y/%m/%d %H:%M:%S")  # fmt: skip
"""Forms of dates that Arrow does not read by itself."""


def _parse_written(texts: pa.Array, form: str) -> pa.Array | None:
    """Return the times of texts that are all in a form; None if one is not."""
    found = pc.strptime(texts, format=form, unit="s", error_is_null=True)
    if found.null_count > texts.null_count:
        return None
    return found


def _time_error(distinct: _Distinct, value: int, expected: str) -> MalformedData:
    problem = f"{quote(distinct.values[value].as_py())} is {expected}"
    remedy = "write seconds since 1970 or dates such as 2026-01-31 12:00:00"
    return distinct.column.error(distinct.find_row(value), problem, remedy)


def _numbers_to_seconds(column: Column, values: pa.ChunkedArray) -> tuple[NDArray[np.int64], Mask, str]:
    return _scale_to_seconds(column, pc.fill_null(values, 0).to_numpy(), pc.is_null(values).to_numpy())


def _scale_to_seconds(
    column: Column, values: NDArray[np.generic], missing: Mask
) -> tuple[NDArray[np.int64], Mask, str]:
    """Convert numbers to seconds; the size of their median tells their unit."""
    if values.dtype.kind == "f":
        missing = missing | np.isnan(values.astype(np.float64))
    if (dates := _whole_dates(values, missing)) is not None:
        return dates, missing, "dates as in 20260131"
    present = np.abs(values[~missing].astype(np.float64))
    middle = float(np.median(present)) if len(present) else 0.0
    divisor, unit = next(((by, name) for above, by, name in _SCALES if middle > above), (1, "seconds"))
    if values.dtype.kind != "f":
        return values.astype(np.int64) // divisor, missing, f"{unit} since 1970"
    seconds = np.floor(np.where(missing, 0.0, values.astype(np.float64)) / divisor)
    wrong = ~(np.abs(seconds) < 2.0**63)
    if wrong.any():
        row = int(np.argmax(wrong))
        column.refuse(row, f"{values[row]} is too large for a time", "write seconds since 1970")
    return seconds.astype(np.int64), missing, f"{unit} since 1970"


def _whole_dates(values: NDArray[np.generic], missing: Mask) -> NDArray[np.int64] | None:
    """Return the seconds of dates that are written as whole numbers, as in 20260131; None if one is no such date.

    As seconds since 1970 they would all be in August 1970.
    """
    numbers = np.where(missing, 19700101, values.astype(np.float64))
    if values.dtype.kind != "i" or not len(numbers) or not ((numbers >= 19000101) & (numbers <= 21001231)).all():
        return None
    days, index = np.unique(numbers.astype(np.int64), return_inverse=True)
    texts = pa.array([f"{day // 10000:04}-{day // 100 % 100:02}-{day % 100:02}" for day in days.tolist()])
    try:
        seconds, _ = _dates_to_seconds(texts.cast(pa.timestamp("us")))
    except pa.ArrowInvalid:
        return None
    return seconds[index]


def _dates_to_seconds(values: pa.Array) -> tuple[NDArray[np.int64], Mask]:
    zone = getattr(values.type, "tz", None)
    micros = values.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
    missing = np.asarray(pc.is_null(micros)).astype(np.bool_)
    return np.asarray(pc.fill_null(micros, 0)).astype(np.int64) // 1_000_000, missing


def _cast(column: Column, kind: pa.DataType) -> pa.ChunkedArray:
    values = column.values
    try:
        # NOTE: a safe cast would refuse whole numbers that float64 rounds; for a rating the rounded number is enough.
        return values.cast(kind, safe=not (pa.types.is_integer(values.type) and pa.types.is_floating(kind)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        expected = "numbers" if kind != values.type else "times"
        raise MalformedData(
            f"{column.places[0]}, column {column.name} is of type {values.type}", f"it should hold {expected}"
        ) from None


def _strip_and_null(texts: pa.Array) -> pa.Array:
    """Remove the spaces around texts, and replace empty texts and those that mean a missing value by null."""
    trimmed = pc.utf8_trim_whitespace(texts)
    nothing = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(_MISSING_TEXTS, trimmed.type))
    return pc.if_else(nothing, pa.scalar(None, trimmed.type), trimmed)


def _fill_with_nan(values: pa.Array) -> Reals:
    filled: Reals = pc.fill_null(values, float("nan")).to_numpy(zero_copy_only=False)
    return filled


def _can_cast(values: pa.Array, kind: pa.DataType) -> bool:
    try:
        values.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _find_first_failure(values: pa.Array, convert: Callable[[pa.Array], object]) -> int:
    """Return the index of the first value that cannot be converted, by bisection; at least one cannot."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(values[low:middle])
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low

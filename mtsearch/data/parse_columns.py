"""Read the columns of a table as numbers and times: the forms of their texts as SQL, and seconds since 1970."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtsearch.tables.columns import NUMERIC, Column, Form, Kind, query_remedy

Mask = NDArray[np.bool_]
Reals = NDArray[np.float64]

_TRUTH = Form("CASE lower(trim({})) WHEN 'true' THEN 1.0 WHEN 'false' THEN 0.0 END")
_NUMBER_TYPES = dict.fromkeys((*NUMERIC, "BOOLEAN"), "CAST({} AS DOUBLE)")


def numbers(decimal: str = ".") -> Kind:
    """Return the kind of a column of numbers; true and false are 1 and 0.

    Args:
        decimal: decimal sign of a text; with a comma, points between thousands are left out.
    """
    plain = "{}" if decimal == "." else "replace(replace({}, '.', ''), ',', '.')"
    forms = (Form(f"TRY_CAST({plain} AS DOUBLE)"), _TRUTH)
    return Kind("it should hold numbers", forms, _NUMBER_TYPES, "is not a number", _find_number_remedy)


def _find_number_remedy(column: str, text: str) -> str:
    """Return the remedy for a text that is no number, by its form."""
    if re.fullmatch(r"\s*[-+]?\d+(\.\d{3})*,\d+\s*", text):
        return 'write reader = { decimal = "," } under [data]'
    if re.fullmatch(r"\s*[-+]?\d{1,3}(,\d{3})+(\.\d*)?\s*", text):
        return "write " + query_remedy(column, "replace({}, ',', '')")
    if len(text) > 40:
        return "correct the row"
    left_out = f'reader = {{ null = [{json.dumps(text)}] }} and missing = "drop"'
    return f"correct the row, or write {left_out} under [data] to leave such rows out"


# DuckDB also takes the year 0, "epoch", "infinity" and a clock that breaks off for times.
_ISO_TEXT = r"\s*\d{{4}}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?\s*(Z|[-+]\d\d(:?\d\d)?)?)?\s*( (UTC|GMT))?"
_ISO = f"CASE WHEN regexp_full_match({{0}}, '{_ISO_TEXT}') THEN regexp_replace({{0}}, ' (UTC|GMT)$', '') END"
_WRITTEN = ("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d, %Y", "%B %d, %Y",
            "%m %d, %Y", "%Y/%m/%d", "%d %B %Y", "%a %b %d %H:%M:%S %Y", "%d-%m-%Y")  # fmt: skip
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")


def _written_forms() -> tuple[Form, ...]:
    """Return the forms of dates that are no ISO dates; of month and day either may be the first."""
    forms = []
    for date in _WRITTEN:
        clocks = [f"'{date}{clock}'" for clock in _CLOCKS]
        forms.append(f"epoch_us(try_strptime(trim({{}}), [{', '.join(clocks)}]))")
    first = len(_PLAIN_TIMES)
    return tuple(Form(sql, rival={0: first + 1, 1: first}.get(place)) for place, sql in enumerate(forms))


_WHOLE = "TRY_CAST({} AS BIGINT)"
_PLAIN_TIMES = (
    Form(_WHOLE, fits=f"CASE WHEN regexp_full_match({{0}}, '[-+]?[0-9]+') THEN {_WHOLE.format('{0}')} END"),
    Form("TRY_CAST({} AS DOUBLE)"),
    Form(f"epoch_us(TRY_CAST({_ISO} AS TIMESTAMPTZ))"),
    Form("epoch_us(try_strptime(trim({}) || '-1', '%G-W%V-%u'))"),
    Form("epoch_us(try_strptime(trim({}), '%G-W%V-%u'))"),
)
"""Numbers since 1970, dates, and ISO weeks."""

TIMES = Kind(
    "it should hold times",
    (*_PLAIN_TIMES, *_written_forms()),
    {
        **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"),
                        "CAST({} AS BIGINT)"),
        **dict.fromkeys(('"NULL"', "UBIGINT", "HUGEINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL"),
                        "CAST({} AS DOUBLE)"),
        **dict.fromkeys(("DATE", *(f"TIMESTAMP{unit}" for unit in ("", "_S", "_MS", "_NS"))),
                        "epoch_us({}::TIMESTAMP)"),
    },
    "is not a time, or not in the form of most of the column",
    lambda _column, _text: "write seconds since 1970 or dates such as 2026-01-31 12:00:00",
)  # fmt: skip

_SCALES = ((1e17, 10**9, "nanoseconds"), (1e14, 10**6, "microseconds"), (1e11, 10**3, "milliseconds"))
"""Lowest median, divisor and name of each unit of time; in seconds 1e11 would be the year 5138."""


def parse_numbers(column: Column) -> Reals:
    """Return `[N]` numbers of a column; NaN for a missing value."""
    return np.asarray(column.values.to_numpy(), np.float64)


def parse_times(column: Column) -> tuple[NDArray[np.int64], Mask, str]:
    """Return `[N]` seconds since 1970, `[N]` True for each missing time, and the name of the column's unit.

    Raises:
        MalformedData: a number is too large for a time.
    """
    missing = np.asarray(pc.is_null(column.values, nan_is_null=True)).astype(np.bool_)
    values = np.asarray(pc.fill_null(column.values, 0) if column.values.null_count else column.values)
    if "epoch_us" in column.form:
        return values // 1_000_000, missing, "dates"
    if (dates := _whole_dates(values, missing)) is not None:
        return dates, missing, "dates as in 20260131"
    present = values if not missing.any() else values[~missing]
    middle = float(np.median(np.abs(present))) if len(present) else 0.0
    divisor, unit = next(((by, name) for above, by, name in _SCALES if middle > above), (1, "seconds"))
    if values.dtype.kind == "f":
        values = np.floor(np.where(missing, 0.0, values) / divisor)
        wrong = ~(np.abs(values) < 2.0**63)
        if wrong.any():
            row = int(np.argmax(wrong))
            column.refuse(row, f"{values[row] * divisor} is too large for a time", "write seconds since 1970")
        divisor = 1
    seconds: NDArray[np.int64] = values.astype(np.int64, copy=False)
    return seconds if divisor == 1 else seconds // divisor, missing, f"{unit} since 1970"


def _whole_dates(values: NDArray[np.generic], missing: Mask) -> NDArray[np.int64] | None:
    """Return the seconds of dates that are written as whole numbers, as in 20260131; None if one is no such date.

    As seconds since 1970 they would all be in August 1970.
    """
    if values.dtype.kind != "i" or missing.all():
        return None
    numbers = np.where(missing, 19700101, values) if missing.any() else values
    if numbers.min() < 19000101 or numbers.max() > 21001231:
        return None
    days, index = np.unique(numbers, return_inverse=True)
    texts = pa.array([f"{day // 10000:04}-{day // 100 % 100:02}-{day % 100:02}" for day in days.tolist()])
    try:
        return np.asarray(texts.cast(pa.timestamp("s")).cast(pa.int64()))[index]
    except pa.ArrowInvalid:
        return None

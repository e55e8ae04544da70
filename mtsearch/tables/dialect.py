"""Find the form of a delimited text from its beginning: separator, quotes, encoding and heading."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mtsearch.tables.names import has_usual_name
from mtsearch.tables.paths import HEAD_BYTES, SEPARATORS, TYPED, kind_of
from mtsearch.tables.refusals import LATIN_1, refuse
from mtsearch.text import quote

if TYPE_CHECKING:
    from mtsearch.study_file.sections import Reader

_SNIFFED_LINES = 100
_CANDIDATES = (",", "\t", ";", "|", "::")
_COMMENTS = "#%"

# NOTE: `csv` refuses fields of more than 131,072 characters. The limit is for the whole process.
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Dialect:
    """The form of a text.

    Attributes:
        separator: between fields.
        quote: around fields; empty: none.
        escape: before a quote within a field.
        encoding: as DuckDB names it.
        skip: lines before the heading, or before the first row.
        heading: names of the columns, None if the text has none.
        has_heading: True if they are in the line after the skipped ones.
        first: fields of the first line.
    """

    separator: str
    quote: str
    escape: str
    encoding: str
    skip: int
    heading: Sequence[str] | None
    has_heading: bool
    first: Sequence[str]

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self.heading) if self.heading else [str(place) for place in range(1, len(self.first) + 1)]


def sniff(place: Path, head: bytes, reader: Reader | None) -> Dialect:
    """Find the form of a text from its beginning, as far as the reader of the study file does not give it.

    Raises:
        MalformedData: the text has no rows, or its first line is damaged.
    """
    text, encoding = _decode(place, head, reader)
    lines = re.split(r"\r\n|\n|\r", text)[: _SNIFFED_LINES + 1]
    if len(head) == HEAD_BYTES and len(lines) > 1:
        lines.pop()  # may be cut
    skip = reader.skip if reader else 0
    separator = reader.separator if reader else None
    # A spreadsheet may say its separator in a line of its own.
    if said := re.fullmatch(r"sep=(.)", lines[skip] if skip < len(lines) else ""):
        separator, skip = separator or said[1], skip + 1
    if not any(line.strip() for line in lines[skip:]):
        refuse(place, "has no rows")
    kind = kind_of(place)
    separator = separator or SEPARATORS.get(kind)
    above = _count_comments(lines[skip:], separator)
    comment, skip = lines[skip + above - 1] if above else "", skip + above
    body = [line for line in lines[skip:] if line.strip()]
    separator = separator or _find_separator(body)
    quoting = reader.quote if reader and reader.quote is not None else ("" if kind in TYPED else '"')
    escape = (reader.escape if reader else None) or quoting
    try:
        first = _fields(body, separator, quoting)
        named = _fields([comment.lstrip(_COMMENTS + " ")], separator, quoting) if comment.strip() else []
    except csv.Error as error:
        refuse(place, f"its heading cannot be read ({error})")
    if len(named) == len(first) > 1 and has_usual_name(named) and not has_usual_name(first):
        return Dialect(separator, quoting, escape, encoding, skip, named, False, first)
    has_heading = reader.header if reader and reader.header is not None else _is_heading(first)
    return Dialect(separator, quoting, escape, encoding, skip, first if has_heading else None, has_heading, first)


def _count_comments(lines: Sequence[str], separator: str | None) -> int:
    """Count the blank lines and comments before a table.

    Ids may begin with the sign of a comment. So a line with as many fields as the table below is a row of it, or its
    heading: only the last one, with usual names, is counted.
    """
    marked = [not line.strip() or line[0] in _COMMENTS for line in lines]
    above = marked.index(False) if False in marked else 0
    while above and not any(line.strip() for line in lines[above:]):
        above -= 1
    below = [line for line in lines[above:] if line.strip()]
    separator = separator or _find_separator(below)
    width = _count_fields(below[0], separator)
    for place, line in enumerate(lines[:above]):
        if line.strip() and width > 1 and _count_fields(line, separator) == width:
            is_heading = place == above - 1 and has_usual_name(line.lstrip(_COMMENTS + " ").split(separator))
            return above if is_heading else place
    return above


def _decode(place: Path, head: bytes, reader: Reader | None) -> tuple[str, str]:
    """Return the text of a file's beginning, and its encoding as DuckDB names it."""
    if reader and reader.encoding:
        return head.decode(reader.encoding, "replace"), reader.encoding
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", "replace"), "utf-16"
    first = head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
    try:
        first.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(first) - 4:
            refuse(place, f"line 1: {quote(first[:60].decode('utf-8', 'replace'))} is not UTF-8", LATIN_1)
    return head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace"), "utf-8"


def _fields(lines: Sequence[str], separator: str, quoting: str) -> list[str]:
    """Return the fields of the first row."""
    if len(separator) > 1 or not quoting:
        return lines[0].split(separator)
    text = io.StringIO("\n".join(lines), newline="")
    return next(row for row in csv.reader(text, delimiter=separator, quotechar=quoting) if row)


def _find_separator(lines: Sequence[str]) -> str:
    """Return the separator that cuts the most lines into the same number of fields as the first, and into the most."""

    def quality(separator: str) -> tuple[float, int]:
        counts = [_count_fields(line, separator) for line in lines]
        alike = sum(count == counts[0] for count in counts) / len(counts)
        return (round(alike, 1), counts[0]) if counts[0] > 1 else (0.0, 0)

    best = max(_CANDIDATES, key=quality)
    return best if quality(best) > (0.0, 0) else ","


def _count_fields(line: str, separator: str) -> int:
    """Count the fields of a line; separators between quotes are none."""
    outside = re.sub(r'"(?:[^"]|"")*"', "", line) if '"' in line else line
    return outside.count(separator) + 1


def _is_heading(first: Sequence[str]) -> bool:
    """Tell whether fields name columns: one has a usual name, or none is a number."""
    names = [name.partition(":")[0] for name in first]
    return has_usual_name(names) or not any(map(_is_number, first))


def _is_number(text: str) -> bool:
    try:
        float(text.strip().replace(",", "."))
    except ValueError:
        return False
    return text.strip().lower() not in ("nan", "inf", "infinity")

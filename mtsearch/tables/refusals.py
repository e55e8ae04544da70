"""Turn errors of reading a table into one line that names its place, with a remedy."""

from __future__ import annotations

import gzip
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from mtsearch.errors import MalformedData, SourceUnavailable
from mtsearch.tables.paths import JSON, PARQUET, kind_of, read_head
from mtsearch.text import quote

AGAIN = "copy or download it again"
PLAIN_QUOTES = 'correct the file, or write reader = { quote = "" } under [data] if quotes have no meaning in it'
LATIN_1 = 'write reader = { encoding = "latin-1" } under [data]'


def refuse(path: Path, problem: str, remedy: str = "correct the file") -> NoReturn:
    """Raise the error for a damaged file."""
    joint = " " if problem.startswith(("is ", "has ")) else ", "
    raise MalformedData(f"{path}{joint}{problem}", remedy) from None


@contextmanager
def explained(path: Path | None) -> Iterator[None]:
    """Turn errors of reading a file, or of a query for None, into those that name it, with a remedy."""
    import duckdb

    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        refuse(path or Path(), f"is not a complete gzip file ({error})", AGAIN)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # an encrypted member: RuntimeError
        if str(error) == "Query interrupted":  # DuckDB raises it in place of what the handler of a signal raised
            raise KeyboardInterrupt from None
        refuse(path or Path(), f"is not a complete zip archive ({error})", AGAIN)
    except KeyError as error:
        refuse(path or Path(), f"is not in the archive ({error})", "name one of its files")
    except OSError as error:
        raise SourceUnavailable(
            f"{path} cannot be read ({error.strerror or error})", "check the path and its permissions"
        ) from error
    except duckdb.Error as error:
        if path is None:
            raise MalformedData(f"[data] query: {first_line(error)}", "correct the query") from None
        _refuse_of_duckdb(path, str(error))


def _refuse_of_duckdb(path: Path, text: str) -> NoReturn:
    """Raise the error for what DuckDB says of a file."""
    line = re.search(r"CSV Error on Line: (\d+)", text)
    place = f"line {line[1]}" if line else ""
    original = re.search(r"Original Line: ?(.*?)(?:\n[A-Z ][a-z]|\Z)", text, re.DOTALL)
    shown = quote(original[1].split("\n")[0]) if original else ""
    told, packed = text.lower(), ("gzip", "zstd", "decompress")
    if columns := re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text):
        refuse(path, f"{place}: {columns[2]} columns, but the first line has {columns[1]}: {shown}")
    if "unterminated quote" in text:
        refuse(path, f"{place}: a quote is not closed, or something follows it: {shown}", PLAIN_QUOTES)
    if "not utf-8 encoded" in text or "Invalid unicode" in text:
        refuse(path, f"{place}: {shown} is not UTF-8", LATIN_1)
    if kind_of(path) in JSON:
        number = _find_bad_line(path)
        refuse(path, f"line {number} is not a JSON object" if number else f"is not JSON ({first_line(text)})")
    if "parquet" in told and path.suffix.lower() in PARQUET:
        refuse(path, f"is not a complete Parquet file ({first_line(text)})", AGAIN)
    if any(each in told for each in packed):
        refuse(path, f"is not a complete packed file ({first_line(text)})", AGAIN)
    if any(f"{each} Error" in text for each in ("Binder", "Parser", "Conversion", "Catalog")):
        raise MalformedData(f"{path}: where: {first_line(text)}", "correct `where` under [data]") from None
    refuse(path, f"is damaged ({first_line(text)})")


def _find_bad_line(path: Path) -> int:
    """Return the number of the first line that is not a JSON object, which DuckDB does not tell; 0 if there is none."""
    try:
        lines = read_head(path).split(b"\n")
    except OSError:
        return 0
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                return number
        except (ValueError, RecursionError):
            return number
    return 0


def first_line(error: object) -> str:
    """Return the first line of an error's text."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]

"""A folder or zip of the original MovieLens 100K files, `u.data` and `u.item`, read in memory and never unpacked."""

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn, TypeVar

import numpy as np

from mtsearch.data.interactions import Interactions
from mtsearch.errors import MalformedData, SourceUnavailable

T = TypeVar("T")

_REMEDY = "mend the file or download the archive anew"
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _File:
    """One file: where it is, and its lines, each divided into fields."""

    place: str
    rows: Sequence[Sequence[str]]

    def column(self, name: str, index: int, parse: Callable[[str], T], must: str) -> list[T]:
        """`[N]` parsed fields of one column.

        Raises:
            MalformedData: `parse` raised ValueError or KeyError; the message says what a value must be.
        """
        values = []
        for line, row in enumerate(self.rows, start=1):
            try:
                values.append(parse(row[index]))
            except (ValueError, KeyError):
                self.refuse(line, f"column {name}: {row[index][:60]!r} {must}")
        return values

    def refuse(self, line: int, problem: str) -> NoReturn:
        """Raise MalformedData for a line, 1-based."""
        raise MalformedData(f"{self.place}, line {line}, {problem}", _REMEDY) from None


def read(path: Path) -> Interactions:
    """The ratings of an `ml-100k` folder or zip, items keyed by title.

    Raises:
        SourceUnavailable: `path` cannot be read.
        MalformedData: a file is missing, damaged or does not say what it should.
    """
    try:
        (data_place, data), (item_place, item) = (_member(path, name) for name in ("u.data", "u.item"))
    except OSError as error:
        raise SourceUnavailable(f"{path} cannot be read ({error.strerror})", "check the path and its rights") from error
    titles = _titles(_divided(item_place, item, "|", 24))
    file = _divided(data_place, data, "\t", 4)
    return Interactions.from_columns(
        file.column("user", 0, _filled, "is no id"),
        file.column("item", 1, titles.__getitem__, f"has no line in {item_place}"),
        np.array(file.column("rating", 2, _rating, "is not a finite number"), np.float32),
        np.array(file.column("timestamp", 3, _timestamp, "is not a whole number of seconds"), np.int64),
        catalogue=list(titles.values()),
    )


def _member(path: Path, name: str) -> tuple[str, bytes]:
    """Where the file called `name` is, and what it holds."""
    if path.is_dir():
        try:
            return str(path / name), (path / name).read_bytes()
        except FileNotFoundError:
            raise MalformedData(f"{path} holds no {name}", "give the folder that u.data and u.item are in") from None
    try:
        with zipfile.ZipFile(path) as archive:
            return _zip_member(path, archive, name)
    # RuntimeError is what an encrypted member raises.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise MalformedData(f"{path} is not a whole zip archive ({error})", "download it anew") from error


def _zip_member(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[str, bytes]:
    found = [member for member in archive.namelist() if PurePosixPath(member).name == name]
    if not found:
        raise MalformedData(f"{path} holds no {name}", "give the zip of MovieLens 100K, or its folder")
    member = min(found, key=len)
    return f"{path}: {member}", archive.read(member)


def _divided(place: str, content: bytes, separator: str, columns: int) -> _File:
    # NOTE: not splitlines: in Latin-1 it takes the letter 0x85 for the end of a line.
    lines = content.decode("latin-1").rstrip("\r\n").split("\n")
    if lines == [""]:
        raise MalformedData(f"{place} is empty", _REMEDY)
    file = _File(place, [line.rstrip("\r").split(separator) for line in lines])
    for line, row in enumerate(file.rows, start=1):
        if len(row) != columns:
            file.refuse(line, f"column {min(len(row), columns)}: {columns} columns were expected, {len(row)} are there")
    return file


def _titles(file: _File) -> dict[str, str]:
    """Item number to title; a few of the original titles end in a space, which no other form of the data keeps."""
    titles: dict[str, str] = {}
    numbers = file.column("item", 0, _filled, "is no id")
    for line, (number, title) in enumerate(
        zip(numbers, file.column("title", 1, _filled, "is no title"), strict=True), 1
    ):
        if number in titles:
            file.refuse(line, f"column item: {number!r} is there twice")
        titles[number] = title
    return titles


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError
    return text.strip()


def _rating(text: str) -> float:
    value = float(text)
    if not abs(value) <= _FLOAT32_MAX:
        raise ValueError
    return value


def _timestamp(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError
    return value

"""Read MovieLens 100K from its original files, or from the RecBole wheel if only a package index can be reached."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn, TypeVar

import numpy as np

from mtsearch.data.interactions import Interactions
from mtsearch.errors import MalformedData, SourceUnavailable

T = TypeVar("T")

_REMEDY = "correct the file or download the archive again"
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _File:
    """A text file: where it lies, as a message names it, and its lines, each split into fields."""

    place: str
    rows: Sequence[Sequence[str]]

    def column(self, name: str, index: int, parse: Callable[[str], T], requirement: str) -> list[T]:
        """Return `[N]` parsed fields of one column.

        Args:
            name: name of the column, for messages.
            index: its index, from 0 on.
            parse: parses one field; raises ValueError or KeyError if it is not valid.
            requirement: end of the message about a field that is not valid, such as "is not an id".

        Raises:
            MalformedData: a field is not valid.
        """
        values = []
        for line, row in enumerate(self.rows, start=1):
            try:
                values.append(parse(row[index]))
            except (ValueError, KeyError):
                self.refuse(line, f"column {name}: {row[index][:60]!r} {requirement}")
        return values

    def refuse(self, line: int, problem: str) -> NoReturn:
        """Raise MalformedData with the file and the number of a line, 1-based."""
        raise MalformedData(f"{self.place}, line {line}, {problem}", _REMEDY) from None


def read_original_files(path: Path) -> Interactions:
    """Read the ratings of an `ml-100k` folder or zip; item ids are titles.

    Raises:
        SourceUnavailable: `path` cannot be read.
        MalformedData: a file is missing, damaged or has wrong content.
    """
    try:
        (data_place, data), (item_place, item) = (_read_member(path, name) for name in ("u.data", "u.item"))
    except OSError as error:
        remedy = "check the path and its permissions"
        raise SourceUnavailable(f"{path} cannot be read ({error.strerror})", remedy) from error
    titles = _read_titles(_split_lines(item_place, item, "|", 24))
    file = _split_lines(data_place, data, "\t", 4)
    return Interactions.from_columns(
        file.column("user", 0, _strip, "is not an id"),
        file.column("item", 1, titles.__getitem__, f"has no line in {item_place}"),
        np.array(file.column("rating", 2, _parse_rating, "is not a finite number"), np.float32),
        np.array(file.column("timestamp", 3, _parse_timestamp, "is not a whole number of seconds"), np.int64),
        catalogue=list(titles.values()),
    )


def _read_member(path: Path, name: str) -> tuple[str, bytes]:
    """Return the location, as a message names it, and the content of the file `name` in a folder or zip."""
    if path.is_dir():
        try:
            return str(path / name), (path / name).read_bytes()
        except FileNotFoundError:
            raise MalformedData(f"{path} has no {name}", "name the folder that has u.data and u.item") from None
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_zip_member(path, archive, name)
    # An encrypted member raises RuntimeError.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise MalformedData(f"{path} is not a complete zip archive ({error})", "download it again") from error


def _read_zip_member(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[str, bytes]:
    found = [member for member in archive.namelist() if PurePosixPath(member).name == name]
    if not found:
        raise MalformedData(f"{path} has no {name}", "name the zip of MovieLens 100K, or its folder")
    member = min(found, key=len)
    return f"{path}: {member}", archive.read(member)


def _split_lines(place: str, content: bytes, separator: str, columns: int) -> _File:
    # NOTE: splitlines is not used: in Latin-1 it takes the character 0x85 for the end of a line.
    lines = content.decode("latin-1").rstrip("\r\n").split("\n")
    if lines == [""]:
        raise MalformedData(f"{place} is empty", _REMEDY)
    file = _File(place, [line.rstrip("\r").split(separator) for line in lines])
    for line, row in enumerate(file.rows, start=1):
        if len(row) != columns:
            file.refuse(line, f"column {min(len(row), columns)}: {columns} columns were expected, {len(row)} found")
    return file


def _read_titles(file: _File) -> dict[str, str]:
    """Return the titles by item number, without the spaces at the end of a few original titles."""
    titles: dict[str, str] = {}
    numbers = file.column("item", 0, _strip, "is not an id")
    for line, (number, title) in enumerate(
        zip(numbers, file.column("title", 1, _strip, "is not a title"), strict=True), 1
    ):
        if number in titles:
            file.refuse(line, f"column item: {number!r} is given twice")
        titles[number] = title
    return titles


def _strip(text: str) -> str:
    if not text.strip():
        raise ValueError
    return text.strip()


def _parse_rating(text: str) -> float:
    value = float(text)
    if not abs(value) <= _FLOAT32_MAX:
        raise ValueError
    return value


def _parse_timestamp(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError
    return value


_REQUIREMENT = "recbole==1.2.1"
_FOLDER = "recbole/dataset_example/ml-100k"
_SHA256 = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}


def read_wheel() -> Interactions:
    """Read MovieLens 100K from the RecBole wheel; item ids are titles. RecBole is neither installed nor run.

    Raises:
        SourceUnavailable: no program could download the wheel, or its content is not the expected one.
    """
    return _parse_wheel(*download_wheel())


def download_wheel(seconds: float = 120) -> tuple[str, str]:
    """Download the RecBole wheel and return the texts of its ratings (in the order of `u.data`) and its items.

    Both are tables with a heading line and tabs between the columns.

    Args:
        seconds: time limit for each program that may download the wheel.

    Raises:
        SourceUnavailable: no program could download the wheel, or its content is not the expected one.
    """
    from mtsearch.data.movielens import run_to_end

    reasons = []
    for program, command in _find_programs():
        with tempfile.TemporaryDirectory(prefix="mtsearch-") as folder:
            result = run_to_end([*command, folder, _REQUIREMENT], seconds, {"PIP_NO_INPUT": "1"})
            if result.status == 0:
                return _read_wheel_members(Path(folder))
            # NOTE: the output of the programs is not shown: it names the index, whose URL may contain a password.
            how = f"took more than {seconds:g} s" if result.status is None else f"ended with status {result.status}"
            reasons.append(f"{program} {how}")
    raise SourceUnavailable(
        f"{_REQUIREMENT} could not be downloaded: {', '.join(reasons) or 'neither pip nor uv is installed'}"
    )


def _find_programs() -> Iterator[tuple[str, list[str]]]:
    """Yield the name and command of each installed program that can download a wheel; pip may be missing."""
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
        yield "pip", [*pip, "--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--dest"]
    uv = shutil.which("uv")
    if uv:
        install = [uv, "pip", "install", "--python", sys.executable, "--no-deps", "--only-binary=:all:"]
        yield "uv", [*install, "--target"]


def _read_wheel_members(folder: Path) -> tuple[str, str]:
    """Return the texts of the ratings and the items from a wheel in `folder` (pip) or unpacked there (uv)."""
    wheel = next(folder.glob("*.whl"), None)
    try:
        if wheel is None:
            members = [(folder / _FOLDER / name).read_bytes() for name in _SHA256]
        else:
            with zipfile.ZipFile(wheel) as archive:
                members = [archive.read(f"{_FOLDER}/{name}") for name in _SHA256]
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise SourceUnavailable(f"{_REQUIREMENT} does not contain MovieLens 100K ({type(error).__name__})") from error
    for (name, expected), member in zip(_SHA256.items(), members, strict=True):
        if hashlib.sha256(member).hexdigest() != expected:
            raise SourceUnavailable(f"{name} of {_REQUIREMENT} has changed (its SHA-256 differs)")
    ratings, items = (member.decode("utf-8") for member in members)
    return ratings, items


def _parse_wheel(ratings: str, items: str) -> Interactions:
    titles = {number: _wheel_title(name, year) for number, name, year, _ in _wheel_rows(items)}
    users, numbers, stars, seconds = zip(*_wheel_rows(ratings), strict=True)
    return Interactions.from_columns(
        users,
        [titles[number] for number in numbers],
        np.array(stars, np.float32),
        np.array(seconds, np.int64),
        catalogue=list(titles.values()),
    )


def _wheel_rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.split("\n")[1:] if line]


def _wheel_title(name: str, year: str) -> str:
    # NOTE: item 267 has neither title nor year; MovieLens calls it "unknown", RecBole misspells both.
    return "unknown" if name == "unkonwn" else f"{name} ({year})"

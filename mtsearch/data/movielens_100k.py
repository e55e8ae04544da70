"""Read MovieLens 100K from the RecBole wheel, if only a package index can be reached."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mtsearch.data.interactions import Interactions
from mtsearch.errors import SourceUnavailable

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

"""MovieLens 100K from the wheel of RecBole, which carries it whole, for machines that reach only a package index."""

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
from mtsearch.data.processes import run_to_end
from mtsearch.errors import SourceUnavailable

_REQUIREMENT = "recbole==1.2.1"
_FOLDER = "recbole/dataset_example/ml-100k"
_SHA256 = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}


def read() -> Interactions:
    """MovieLens 100K, items keyed by title; nothing of RecBole stays on the machine or is ever run.

    Raises:
        SourceUnavailable: no program could fetch it, or it does not hold what it should.
    """
    return _parse(*download())


def download(seconds: float = 120) -> tuple[str, str]:
    """The ratings (in the order of `u.data`) and the items, as RecBole writes them: a heading, then tabs.

    Args:
        seconds: for each program that may fetch the wheel.

    Raises:
        SourceUnavailable: no program could fetch it, or it does not hold what it should.
    """
    reasons = []
    for program, command in _programs():
        with tempfile.TemporaryDirectory(prefix="mtsearch-") as folder:
            ended = run_to_end([*command, folder, _REQUIREMENT], seconds, {"PIP_NO_INPUT": "1"})
            if ended.status == 0:
                return _members(Path(folder))
            # NOTE: what the programs print stays unsaid: it names the index, whose URL may hold a password.
            how = f"took more than {seconds:g} s" if ended.status is None else f"ended with status {ended.status}"
            reasons.append(f"{program} {how}")
    raise SourceUnavailable(
        f"{_REQUIREMENT} could not be downloaded: {', '.join(reasons) or 'neither pip nor uv here'}"
    )


def _programs() -> Iterator[tuple[str, list[str]]]:
    """What can fetch a wheel here, best first; environments made by uv have no pip."""
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
        yield "pip", [*pip, "--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--dest"]
    uv = shutil.which("uv")
    if uv:
        install = [uv, "pip", "install", "--python", sys.executable, "--no-deps", "--only-binary=:all:"]
        yield "uv", [*install, "--target"]


def _members(folder: Path) -> tuple[str, str]:
    """The ratings and the items, from a wheel in `folder` (pip) or unpacked there (uv)."""
    wheel = next(folder.glob("*.whl"), None)
    try:
        if wheel is None:
            members = [(folder / _FOLDER / name).read_bytes() for name in _SHA256]
        else:
            with zipfile.ZipFile(wheel) as archive:
                members = [archive.read(f"{_FOLDER}/{name}") for name in _SHA256]
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise SourceUnavailable(f"{_REQUIREMENT} holds no MovieLens 100K ({type(error).__name__})") from error
    for (name, expected), member in zip(_SHA256.items(), members, strict=True):
        if hashlib.sha256(member).hexdigest() != expected:
            raise SourceUnavailable(f"{name} of {_REQUIREMENT} is not the file it was (SHA-256 differs)")
    ratings, items = (member.decode("utf-8") for member in members)
    return ratings, items


def _parse(ratings: str, items: str) -> Interactions:
    titles = {number: _title(name, year) for number, name, year, _ in _rows(items)}
    users, numbers, stars, seconds = zip(*_rows(ratings), strict=True)
    return Interactions.from_columns(
        users,
        [titles[number] for number in numbers],
        np.array(stars, np.float32),
        np.array(seconds, np.int64),
        catalogue=list(titles.values()),
    )


def _rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.split("\n")[1:] if line]


def _title(name: str, year: str) -> str:
    # NOTE: item 267 has neither title nor year; MovieLens calls it "unknown", RecBole misspells both.
    return "unknown" if name == "unkonwn" else f"{name} ({year})"

"""What a study file says of files: a name or a path, and relative to what."""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

PATHS = ("source", "items")
"""The keys of [data] that may hold one."""

_NAMED = re.compile(r"(movielens|synthetic)/\w*")


def is_named(source: str) -> bool:
    """Whether a source is meant by name, not by path, known or not."""
    return _NAMED.fullmatch(source) is not None


def anchored(path: str, folder: Path) -> str:
    """The absolute form of a path that is relative to `folder`; a source that is named stays as it is."""
    if is_named(path):
        return path
    try:
        target = folder.absolute() / Path(path).expanduser()
        return str(target.parent.resolve() / target.name)  # a link itself keeps its name: its target may have no suffix
    except (OSError, RuntimeError, ValueError):  # a home of nobody, no current folder, what no file can be called
        return path


def anchor(raw: Mapping[str, Any], folder: Path) -> None:
    """Make the paths of a study file's [data] absolute, in place; what is no path is left for others to refuse."""
    data = raw.get("data")
    if isinstance(data, dict):
        for key in PATHS:
            if isinstance(data.get(key), str) and data[key]:
                data[key] = anchored(data[key], folder)


def place_model(raw: Mapping[str, Any], folder: Path) -> None:
    """Make the folder of a study file's [model] absolute, in place; by default it is the file's own."""
    model = raw.get("model")
    if isinstance(model, dict) and isinstance(model.get("folder", ""), str):
        model["folder"] = anchored(model.get("folder", ""), folder)


def shipped_folder() -> Path:
    """Where the definitions are that come with mtsearch, and their models."""
    packaged = Path(str(files("mtsearch"))) / "studies"
    # NOTE: an editable install has no mtsearch/studies; the checkout's studies/ is then the one copy.
    return packaged if packaged.is_dir() else Path(str(files("mtsearch"))).parent / "studies"

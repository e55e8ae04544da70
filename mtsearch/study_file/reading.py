"""Study files: found by path or by name, read as TOML, with `--set` and single values put over what they say."""

import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtsearch.errors import DefinitionError
from mtsearch.study_file.mistakes import nearest, short, shown
from mtsearch.study_file.paths import anchor, place_model, shipped_folder


def shipped() -> dict[str, Path]:
    """The definitions that come with mtsearch, by name."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.toml"))}


def read(name: str, overrides: Sequence[str], values: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The path of a study file, and what it says with `overrides` and then `values` applied.

    Paths in the file are relative to its folder; those in `overrides` and `values` to the current one.

    Raises:
        DefinitionError: it cannot be found or read.
    """
    path = _find(name)
    raw = _parse(path)
    if path not in shipped().values():
        anchor(raw, path.parent)
    place_model(raw, path.parent)
    change(raw, overrides, values)
    return path, raw


def change(raw: dict[str, Any], overrides: Sequence[str], values: Mapping[str, Any]) -> None:
    """Apply `overrides` and then `values` in place.

    Raises:
        DefinitionError: one of them cannot be.
    """
    for override in overrides:
        _override(raw, override)
    for key, value in values.items():
        _assign(raw, key.split("."), value, key)


def _find(name: str) -> Path:
    # NOTE: shipped names first: a folder of the same name, such as an unpacked ml-100k/, often lies beside.
    known = shipped()
    if name in known:
        return known[name]
    path = Path(name)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # not there, or nothing that a file can be called
        if path.suffix == ".toml":
            raise DefinitionError(f"{short(name)}: no such file", f"shipped definitions: {', '.join(known)}") from None
        raise DefinitionError(
            f"unknown definition {shown(name)}{nearest(name, known)}",
            f"give the path of a .toml file or one of: {', '.join(known)}",
        ) from None
    if not stat.S_ISREG(mode):
        raise DefinitionError(f"{short(name)}: not a file", f"shipped definitions: {', '.join(known)}")
    return path


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path}: cannot be read: {error}", _remedy(path, "a study file is UTF-8 text")) from None
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError(f"{path}: not TOML: {short(str(error))}", _remedy(path, "mend that line")) from None
    except (ValueError, RecursionError) as error:
        raise DefinitionError(f"{path}: {_beyond_reading(error)}") from None


def _remedy(path: Path, otherwise: str) -> str:
    """What to do about a file that is no TOML: of another suffix it may be the data."""
    if path.suffix in ("", ".toml"):
        return otherwise
    return f"a study file is TOML; a table of ratings is taken by --set data.source={short(str(path))}"


def _override(raw: dict[str, Any], override: str) -> None:
    """Apply one `table.key=value` in place."""
    keys, separator, value = override.partition("=")
    path, origin = keys.strip().split("."), f"--set {short(override)}"
    if not separator or len(path) < 2 or not all(path):
        raise DefinitionError(f"{origin}: not of the form table.key=value", "for example --set fixed.epochs=5")
    try:
        _assign(raw, path, _toml_value(value.strip()), origin)
        _unsearch(raw, path)
    except (ValueError, RecursionError) as error:
        raise DefinitionError(f"{origin}: {_beyond_reading(error)}") from None


def _unsearch(raw: dict[str, Any], path: Sequence[str]) -> None:
    """What an override fixes is no longer searched; a file that says both is a mistake."""
    if path[0] == "fixed" and isinstance(space := raw.get("space"), dict):
        space.pop(path[1], None)


def _assign(raw: dict[str, Any], path: Sequence[str], value: object, origin: str) -> None:
    table: Any = raw
    for key in path[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise DefinitionError(f"{origin}: {shown(key)} is not a table", "name a table and a key in it")
    table[path[-1]] = value


def _toml_value(text: str) -> Any:
    """A TOML value; what is none is a string, so that paths need no quotes twice over."""
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if len(document) == 1 else text


def _beyond_reading(error: ValueError | RecursionError) -> str:
    """Why valid TOML could not be read: Python converts no integer of thousands of digits, and tomllib recurses."""
    return "nested too deeply" if isinstance(error, RecursionError) else "an integer of more than 64 bits"

"""Find and read study files, apply `--set` and command-line options, and find the module of a custom model."""

from __future__ import annotations

import hashlib
import re
import stat
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import invalidate_caches
from importlib.machinery import ModuleSpec, PathFinder
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtsearch.errors import DefinitionError
from mtsearch.study_file.config import WEIGHT
from mtsearch.study_file.sections import PATHS, make_absolute, make_all_absolute
from mtsearch.text import nearest, quote, shorten_middle

if TYPE_CHECKING:
    from mtsearch.study_file.sections import ModelSection


@dataclass(frozen=True)
class ModelSource:
    """The place of a module's source code, and its fingerprint.

    Attributes:
        root: the entry of the search path under which the module was found.
        file: file of the module.
        fingerprint: SHA-256 (hex) of its text, or of every .py file of its package if it is in one.
    """

    root: Path
    file: Path
    fingerprint: str

    def texts(self) -> dict[str, bytes]:
        """Return the text of the module, or of every .py file of its package, by path under `root`."""
        top = self.root / self.file.relative_to(self.root).parts[0]
        paths = sorted(top.rglob("*.py")) if top.is_dir() else [top]
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in paths}


def find_model_source(model: ModelSection) -> ModelSource:
    """Find the module of a custom model without running it.

    It is looked for in `folder`, the current folder, on Python's path, then beside the shipped studies. `folder` may
    be missing on another machine, so that a study can go on wherever its module is found.

    Raises:
        DefinitionError: the module is not found, or is not a .py file.
    """
    invalidate_caches()
    here = Path.cwd()
    places = [here / (model.folder or ""), here, *(here / entry for entry in sys.path), shipped_folder()]
    for place in dict.fromkeys(places):
        specs = _find_specs(model.module, str(place))
        if specs and specs[-1].origin is not None:
            file = Path(specs[-1].origin)
            if file.suffix != ".py":
                raise DefinitionError(f"model.factory: {file} is not Python source", "name a module that is a .py file")
            return ModelSource(place, file, _fingerprint(_read_sources(specs, file)))
    looked = f"in {model.folder or here}" + (", the current folder" if model.folder else "")
    raise DefinitionError(
        f"model.factory: no module {model.module!r} {looked} or on Python's path",
        "write model.factory as package.module:function, and put the module beside the study file or in model.folder",
    )


def _find_specs(module: str, place: str) -> list[ModuleSpec]:
    """Return the import specs of a module's packages and of the module, without running them; empty if not found."""
    specs: list[ModuleSpec] = []
    locations: Sequence[str] | None = [place]
    for part in module.split("."):
        # The last part of the name alone is looked up: for a full name, a folder without __init__.py would ask for its
        # parent package, which is not imported here.
        spec = PathFinder.find_spec(part, locations) if locations else None
        if spec is None:
            return []
        specs.append(spec)
        locations = list(spec.submodule_search_locations or ())
    return specs


def _read_sources(specs: Sequence[ModuleSpec], file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and text of each file that counts for the fingerprint: the module, or all .py files of its package."""
    package = next((spec.origin for spec in specs if spec.submodule_search_locations and spec.origin), None)
    if package is None:
        yield "", file.read_bytes()
        return
    folder = Path(package).parent
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(folder).as_posix(), path.read_bytes()


def _fingerprint(texts: Iterator[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256(b"mtsearch model 1\n")
    for name, text in texts:
        plain = text.replace(b"\r\n", b"\n")  # Git may check the file out with other line ends on another system
        digest.update(f"{name}\n{len(plain)}\n".encode() + plain)
    return digest.hexdigest()


def shipped() -> dict[str, Path]:
    """Return the paths of the study files that come with mtsearch, by name."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.toml"))}


def read_study_file(name: str, overrides: Sequence[str], values: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Return the path of a study file, and its content after `overrides` and then `values` are applied.

    Paths in the file are relative to its folder; paths in `overrides` and `values` to the current folder.

    Raises:
        DefinitionError: the file cannot be found or read.
    """
    path = _find_study_file(name)
    raw = join_weight_names(_parse(path))
    if path not in shipped().values():
        make_paths_absolute(raw, path.parent)
    set_model_folder(raw, path.parent)
    apply_overrides(raw, overrides, values)
    return path, raw


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str], values: Mapping[str, Any]) -> None:
    """Apply `overrides` and then `values` to the content of a study file, in place.

    Raises:
        DefinitionError: one of them is not valid.
    """
    for override in overrides:
        _override(raw, override)
    for key, value in values.items():
        _assign(raw, key.split("."), value, key)


def _find_study_file(name: str) -> Path:
    # NOTE: shipped names first: a folder of the same name, such as an unpacked ml-100k/, often lies beside.
    known = shipped()
    if name in known:
        return known[name]
    path = Path(name)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # the file does not exist, or no file can have this name
        if path.suffix == ".toml":
            raise DefinitionError(
                f"{shorten_middle(name)}: no such file", f"shipped definitions: {', '.join(known)}"
            ) from None
        raise DefinitionError(
            f"unknown definition {quote(name)}{nearest(name, known)}",
            f"give the path of a .toml file or one of: {', '.join(known)}",
        ) from None
    if not stat.S_ISREG(mode):
        raise DefinitionError(f"{shorten_middle(name)}: not a file", f"shipped definitions: {', '.join(known)}")
    return path


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path}: cannot be read: {error}", _remedy(path, "a study file is UTF-8 text")) from None
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError(
            f"{path}: not TOML: {shorten_middle(str(error))}", _remedy(path, "correct that line")
        ) from None
    except (ValueError, RecursionError) as error:
        raise DefinitionError(f"{path}: {_explain_unreadable(error)}") from None


def _remedy(path: Path, otherwise: str) -> str:
    """Return the remedy for a file that is not TOML; a file with another suffix may be a table of ratings."""
    if path.suffix in ("", ".toml"):
        return otherwise
    return f"a study file is TOML; to use a table of ratings, add --set data.source={shorten_middle(str(path))}"


_KEY = r'"[^"]*"|[^."]+|(?<=\.)(?=\.|$)|^(?=\.)'
"""A key of a path such as table."quoted.key".other; an empty one where two points meet, or at an end."""


def _override(raw: dict[str, Any], override: str) -> None:
    """Apply one `table.key=value` to the content of a study file, in place."""
    keys, separator, value = override.partition("=")
    path = [part.strip('"') for part in re.findall(_KEY, keys.strip())]
    origin = f"--set {shorten_middle(override)}"
    if not separator or len(path) < 2 or not all(path):
        raise DefinitionError(f"{origin}: not in the form table.key=value", "write for example --set fixed.epochs=5")
    try:
        for each, parsed in _assignments(path, _parse_value(value.strip())):
            _assign(raw, each, parsed, origin)
            _stop_searching(raw, each)
    except (ValueError, RecursionError) as error:
        raise DefinitionError(f"{origin}: {_explain_unreadable(error)}") from None


def _assignments(path: list[str], value: Any) -> Iterator[tuple[list[str], Any]]:
    """Yield the path and the value; of `weight` in [space] or [fixed] those of each task, as in `join_weight_names`."""
    is_weight = path[0] in ("space", "fixed") and path[1] == "weight"
    if is_weight and len(path) > 2:
        yield [path[0], WEIGHT + path[2], *path[3:]], value
    elif is_weight and isinstance(value, dict):
        yield from (([path[0], WEIGHT + task], weight) for task, weight in value.items())
    else:
        yield path, value


def _stop_searching(raw: dict[str, Any], path: Sequence[str]) -> None:
    """Remove a parameter from [space] if an override has fixed it."""
    if path[0] == "fixed" and isinstance(space := raw.get("space"), dict):
        space.pop(path[1], None)


def join_weight_names(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study file in which the table `weight` of a table is keys such as "weight.view".

    In TOML `weight.view = 0.5` and `"weight.view" = 0.5` are not the same, but mean the same here.
    """

    def joined(table: Any) -> Any:
        inner = table.get("weight") if isinstance(table, Mapping) else None
        if not isinstance(inner, Mapping) or not inner:
            return table
        flat = {WEIGHT + str(task): value for task, value in inner.items()}
        return {**{key: value for key, value in table.items() if key != "weight"}, **flat}

    tables = {key: joined(raw[key]) for key in ("space", "fixed") if key in raw}
    if isinstance(trials := raw.get("trials"), list | tuple):
        tables["trials"] = [joined(trial) for trial in trials]
    return {**raw, **tables}


def _assign(raw: dict[str, Any], path: Sequence[str], value: object, origin: str) -> None:
    table: Any = raw
    for key in path[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise DefinitionError(f"{origin}: {quote(key)} is not a table", "name a table and a key in it")
    table[path[-1]] = value


def _parse_value(text: str) -> Any:
    """Parse a TOML value; a text that is not one becomes a string, so that paths need no second pair of quotes."""
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if len(document) == 1 else text


def _explain_unreadable(error: ValueError | RecursionError) -> str:
    """Return why Python could not read valid TOML: an integer of thousands of digits, or very deep nesting."""
    return "nested too deeply" if isinstance(error, RecursionError) else "an integer of more than 64 bits"


def make_paths_absolute(raw: Mapping[str, Any], folder: Path) -> None:
    """Make the paths of a study file's [data] absolute, in place; values that are not text are left unchanged."""
    data = raw.get("data")
    if isinstance(data, dict):
        for key in PATHS:
            if data.get(key):
                data[key] = make_all_absolute(data[key], folder)
        if isinstance(data.get("query"), str):
            data["query_folder"] = make_absolute(str(data.get("query_folder", "")), folder)


def set_model_folder(raw: Mapping[str, Any], folder: Path) -> None:
    """Make the folder of a study file's [model] absolute, in place; by default it is the study file's folder."""
    model = raw.get("model")
    if isinstance(model, dict) and isinstance(model.get("folder", ""), str):
        model["folder"] = make_absolute(model.get("folder", ""), folder)


def shipped_folder() -> Path:
    """Return the folder of the study files that come with mtsearch, and of their models."""
    packaged = Path(str(files("mtsearch"))) / "studies"
    # NOTE: an editable install has no mtsearch/studies; the checkout's studies/ is used then.
    return packaged if packaged.is_dir() else Path(str(files("mtsearch"))).parent / "studies"

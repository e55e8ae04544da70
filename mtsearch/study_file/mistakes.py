"""Pydantic's view of a bad study file, in the words of the file and in one line a mistake."""

import difflib
import math
import reprlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

LONGEST = 100
TOGETHER = "mistakes"
"""Type of the error of a validator that has several lines to say: those under this name in its context."""

_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 60
_BRIEF.maxlevel = 3

# NOTE: pydantic names every member of a union that the value is not; these are the unions of a study file.
_UNIONS = {
    frozenset({"int_type", "float_type"}): "input should be a valid number",
    frozenset({"bool_type", "int_type", "float_type", "string_type"}): "input should be a number, text, true or false",
}

Path = tuple[str | int, ...]


def short(text: str) -> str:
    """Text of a length that fits into a message."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"


def shown(value: object) -> str:
    """A value as it may stand in a message: of a few dozen characters, and true and false as in TOML."""
    return str(value).lower() if isinstance(value, bool) else _BRIEF.repr(value)


def nearest(name: str, known: Collection[str]) -> str:
    """What may have been meant, in parentheses, to go behind the unknown name."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if match:
        return f" (did you mean {match[0]!r}?)"
    return f" (known: {', '.join(known)})" if known else ""


def config_error(error: ValidationError, default: object = None) -> str:
    """Why values make no `TrialConfig`, without the place; `default` shows how a text is written."""
    first = error.errors()[0]
    if first["type"] == "string_pattern_mismatch":
        return f"{shown(first['input'])} is not written like {default!r}"
    return _plain(first)


def all_mistakes(
    error: ValidationError, raw: Mapping[str, Any], model: type[BaseModel], known: Collection[Path] = ()
) -> list[str]:
    """The mistakes of `raw` as a `model`, one line each with its place, those of one place once.

    Args:
        error: what pydantic says of it.
        raw: the file.
        model: what it shall be.
        known: places of which nothing more is said.
    """
    lines: list[str] = []
    for place, errors in _by_place(error, raw).items():
        if place in known:
            continue
        first = errors[0]
        if first["type"] == TOGETHER:
            lines += first["ctx"][TOGETHER]
        else:
            lines.append(_line(place, errors, model))
    return lines


def spoilt_paths(error: ValidationError, raw: Mapping[str, Any]) -> list[Path]:
    """Where in `raw` the mistakes are."""
    return list(_by_place(error, raw))


def without(raw: Mapping[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    """A study file less what is wrong in it: a parameter in [space] as a whole, and so is a list.

    Args:
        raw: the file.
        paths: of the mistakes.
    """
    rest = dict(raw)
    for path in paths:
        keys = [str(key) for key in takewhile(lambda part: isinstance(part, str), path)]
        if keys[0] == "space":
            keys = keys[:2]
        _drop(rest, keys)
    study = rest.get("study")
    rest["study"] = {"name": "unnamed", **(study if isinstance(study, Mapping) else {})}
    return rest


def _drop(table: dict[str, Any], keys: Sequence[str]) -> None:
    for key in keys[:-1]:
        inner = table.get(key)
        if not isinstance(inner, Mapping):
            return
        table[key] = dict(inner)  # the caller's own stays as it is
        table = table[key]
    table.pop(keys[-1], None)


def _by_place(error: ValidationError, raw: Mapping[str, Any]) -> dict[Path, list[Any]]:
    """The errors of each place; under a name that is unknown itself nothing else is said."""
    errors = error.errors()
    unknown = [tuple(each["loc"][:-1]) for each in errors if each["loc"] and each["loc"][-1] == "[key]"]
    places: dict[Path, list[Any]] = {}
    for each in errors:
        location = tuple(each["loc"])
        if location and location[-1] != "[key]" and any(location[: len(key)] == key for key in unknown):
            continue
        places.setdefault(tuple(_visible(location, raw, each["type"] == "missing")), []).append(each)
    return places


def _line(place: Path, errors: Sequence[Any], model: type[BaseModel]) -> str:
    first = errors[0]
    if first["type"] == "extra_forbidden":
        *table, key = first["loc"]
        return f"unknown key {short(_dotted(place))!r}{nearest(str(key), _fields_at(model, table))}"
    name = short(_dotted(place))
    if first["type"] == "missing":
        return f"{name} is missing: add it"
    if first["type"] == "no_parameter":
        return f"{name} = {shown(first['input'])} {first['msg']}"
    union = _UNIONS.get(frozenset(each["type"] for each in errors))
    message = _plain({**first, "msg": union} if union else first)
    return message if not name or message.startswith(name) else f"{name}: {message}"


def _dotted(place: Path) -> str:
    """`space.learning_rate.low`; what stands in a list of tables has its number, from 1 on."""
    if len(place) > 1 and isinstance(place[1], int) and place[0] in ("trials", "published"):
        rest = _dotted(place[2:])
        return f"[[{place[0]}]] number {place[1] + 1}" + (f": {rest}" if rest else "")
    return ".".join(str(key) if str(key).isprintable() else repr(key) for key in place)


def _visible(location: Sequence[str | int], raw: Any, missing: bool) -> Iterator[str | int]:
    """The parts of a pydantic location that the file has, or misses; members of unions are not among them."""
    for depth, part in enumerate(location):
        inside = isinstance(raw, Mapping) and part in raw
        inside |= isinstance(raw, Sequence) and isinstance(part, int) and part < len(raw)
        if inside:
            raw = raw[part]
        if inside or (missing and depth == len(location) - 1):
            yield part


def _fields_at(model: type[BaseModel], table: Sequence[str | int]) -> list[str]:
    """Keys of the table at a pydantic location."""
    types: list[Any] = [model]
    for part in table:
        types = [inner for each in types for inner in _inside(each, part)]
    return [name for each in types for name in getattr(each, "model_fields", {})]


def _inside(form: Any, part: str | int) -> list[Any]:
    """The types that may stand under one part of a location."""
    if isinstance(form, type) and issubclass(form, BaseModel):
        field = form.model_fields.get(str(part))
        return _members(field.annotation) if field else [form]  # else: the member of a union, by name
    if get_origin(form) in (dict, tuple):
        return _members([each for each in get_args(form) if each is not ...][-1])
    return []


def _members(form: Any) -> list[Any]:
    """The members of a union, each without its annotations."""
    if get_origin(form) is Annotated:
        return _members(get_args(form)[0])
    if get_origin(form) in (Union, UnionType):
        return [member for each in get_args(form) for member in _members(each)]
    return [form]


def _plain(error: Any) -> str:
    """Pydantic's message without its preambles, in the file's words."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":
        return message
    given = error["input"]
    if isinstance(given, float) and not math.isfinite(given):
        return f"{given} is not a finite number"
    if error["type"] == "too_short":
        return "is empty: name at least one"
    if error["type"] == "tuple_type":
        table = error["loc"][0]
        in_words = f"is no list of tables: write [[{table}]]" if table in ("trials", "published") else ""
        return in_words or f"{shown(given)} is no list: write [...]"
    if error["type"] in ("model_type", "dict_type"):
        return f"{shown(given)} is not a table"
    return f"{message[0].lower()}{message[1:]}, not {shown(given)}"

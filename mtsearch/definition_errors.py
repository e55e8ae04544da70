"""Pydantic's view of a bad study file, in the words of the file and in one line."""

import difflib
import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

LONGEST = 100

_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 60
_BRIEF.maxlevel = 3


def short(text: str) -> str:
    """Text of a length that fits into a message."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"


def shown(value: object) -> str:
    """A value as it may stand in a message: of a few dozen characters, and true and false as in TOML."""
    return str(value).lower() if isinstance(value, bool) else _BRIEF.repr(value)


def nearest(name: str, known: Mapping[str, object]) -> str:
    """What may have been meant, in parentheses, to go behind the unknown name."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else f" (known: {', '.join(known)})"


def first_config_error(error: ValidationError, place: str, fixed: Mapping[str, object]) -> str:
    """Why values make no `TrialConfig`; `place` holds those that are not `fixed`."""
    first = error.errors()[0]
    if first["loc"]:
        name = str(first["loc"][0])
        place = f"fixed.{name}" if name in fixed else place
        return f"{place}: {name} = {shown(first['input'])}: {_plain(first)}"
    return f"{place}: {_plain(first)}"


def first_error(error: ValidationError, raw: Mapping[str, Any], model: type[BaseModel]) -> str:
    """The first mistake of `raw` as a `model`, with its place."""
    first = error.errors()[0]
    if first["type"] == "extra_forbidden":
        *table, key = first["loc"]
        known = _fields_at(model, table)
        return f"unknown key {short('.'.join(map(str, first['loc'])))!r}{nearest(str(key), known)}"
    place = short(".".join(str(part) for part in _visible(first["loc"], raw)))
    if first["type"] == "missing":
        return f"{place} is missing: add it"
    message = _plain(first)
    return message if not place or message.startswith(place) else f"{place}: {message}"


def _visible(location: Sequence[str | int], raw: Any) -> Iterator[str | int]:
    """The parts of a pydantic location that the file has; members of unions are not among them."""
    for depth, part in enumerate(location):
        inside = isinstance(raw, Mapping) and part in raw
        inside |= isinstance(raw, Sequence) and isinstance(part, int) and part < len(raw)
        if inside:
            raw = raw[part]
        elif depth < len(location) - 1 or not isinstance(raw, Mapping):
            continue
        yield part


def _fields_at(model: type[BaseModel], table: Sequence[str | int]) -> Mapping[str, object]:
    for part in table:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return {}
        model = annotation
    return model.model_fields


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
    if error["type"] in ("model_type", "dict_type"):
        return f"{shown(given)} is not a table"
    return f"{message[0].lower()}{message[1:]}, not {shown(given)}"

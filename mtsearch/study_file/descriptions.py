"""What a model's docstring says: of itself in its first line, of each field under `Attributes:`."""

import inspect
import re

from pydantic import BaseModel

_FIELD = re.compile(r"^ {4}(?P<names>\w+(?:, \w+)*): (?P<text>.*(?:\n {8,}.*)*)", re.MULTILINE)


def summary_of(model: type[BaseModel]) -> str:
    """The first line."""
    return (inspect.getdoc(model) or "").partition("\n")[0]


def fields_of(model: type[BaseModel]) -> dict[str, str]:
    """One sentence or several for each field that is described, without line breaks or the full stop."""
    _, _, attributes = (inspect.getdoc(model) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for match in _FIELD.finditer(attributes):
        text = " ".join(match["text"].split()).removesuffix(".")
        found |= dict.fromkeys(match["names"].split(", "), text)
    return found

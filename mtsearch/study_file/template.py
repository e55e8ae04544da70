"""A study file to start from: every table and every option, with what it means, its range and its default."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w

from mtsearch.definition import DEFAULT, StudyDefinition
from mtsearch.study_file.loss_ratio import NAME, WEIGHTS
from mtsearch.study_file.schema import parameter_schema, shipped_schema, study_schema
from mtsearch.study_file.searchable import FIELDS

_WIDTH = 116


def template(name: str, file: str) -> str:
    """The shipped default definition with everything that it leaves out as a comment.

    Args:
        name: of the study.
        file: where it will be, as it may be typed.
    """
    definition = StudyDefinition.load(DEFAULT, values={"study.name": name})
    tables = study_schema()["properties"]
    resolved = definition.model_dump(exclude_unset=True)
    lines = [f"#:schema {shipped_schema().as_uri()}", *_heading(file)]
    for table in ("study", "data", "split", "constraints"):
        lines += ["", _comment(tables[table]["description"]), f"[{table}]"]
        for key, schema in tables[table]["properties"].items():
            lines += _option(key, schema, resolved.get(table, {}))
    lines += ["", *_space(definition), "", *_fixed(definition), *_commented(tables)]
    return "\n".join(lines) + "\n"


def _heading(file: str) -> Iterator[str]:
    yield "# A study of mtsearch. Lines behind # say what else there is, with its range and its default."
    yield "#"
    yield f"#   mtsearch check {file}"
    yield f"#   mtsearch run {file} --trials 50"


def _option(key: str, schema: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    """What it means and allows, and its value: behind # where that is the default."""
    yield _comment(f"{key}: {_meaning(schema)}")
    if key in given:
        yield _line(key, given[key])
    elif schema.get("type") == "object" or "oneOf" in schema:
        yield from _inline(key, schema)
    else:
        yield "# " + (_line(key, schema["default"]) if "default" in schema else f"{key} = ...")


def _inline(key: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """A table within a table: its keys as a comment, then the default."""
    members = schema.get("oneOf", [schema])
    for member in members:
        for name, inner in member["properties"].items():
            default = f"; default {_value(inner['default'])}" if "default" in inner else ""
            yield _comment(f"  {name}: {_meaning(inner)}{default}")
    yield "# " + _line(key, schema.get("default", {}))


def _space(definition: StudyDefinition) -> Iterator[str]:
    yield _comment("What is searched: any parameter of [fixed] but the seed.")
    yield _comment(
        "  { low = ..., high = ..., log = false, step = ..., default = ... } of numbers: evenly on a logarithmic"
    )
    yield _comment("  scale with log; low, low + step, ... with step; default is where the study starts.")
    yield _comment('  { choices = [...], default = ... } of whatever: [16, 64], [true, false], ["constant", "cosine"].')
    yield "[space]"
    for name, parameter in definition.space.items():
        yield _comment(f"{name}: {_meaning(parameter_schema(name))}")
        yield _line(name, parameter.model_dump(exclude_unset=True))


def _fixed(definition: StudyDefinition) -> Iterator[str]:
    yield _comment("What every trial has.")
    yield "[fixed]"
    for name in FIELDS:
        if name in definition.space:
            continue
        excluded = name == NAME or (name in WEIGHTS and NAME in definition.space)
        rule = "; loss_ratio and the weights exclude each other" if excluded else ""
        yield _comment(f"{name}: {_meaning(parameter_schema(name))}{rule}")
        if name in definition.fixed:
            yield _line(name, definition.fixed[name])
        else:
            yield "# " + _line(name, FIELDS[name].default)


def _commented(tables: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield _comment(tables["model"]["description"])
    for key, schema in tables["model"]["properties"].items():
        yield _comment(f"{key}: {_meaning(schema)}")
    yield "# [model]"
    yield '# factory = "my_model:make"'
    yield ""
    yield _comment(
        "Trials to run first, with values of [space]; what one leaves out is sampled. Without [space] only these run."
    )
    yield "# [[trials]]"
    yield "# learning_rate = 0.1"
    yield ""
    yield _comment(
        "What somebody else reported for each of [[trials]], in their order, to be shown beside what is measured."
    )
    yield "# [[published]]"
    yield "# rmse = 1.0"


def _meaning(schema: Mapping[str, Any]) -> str:
    return "; ".join(filter(None, [schema.get("description", ""), allowed(schema)]))


def allowed(schema: Mapping[str, Any]) -> str:
    """The range of a value in words: `1 ... 4096`; empty where any will do."""
    if "anyOf" in schema:
        return " or ".join(filter(None, map(allowed, schema["anyOf"])))
    if "const" in schema:
        return _value(schema["const"])
    values = schema.get("enum") or schema.get("items", {}).get("enum")
    if values:
        return " or ".join(map(_value, values)) if "enum" in schema else "of " + ", ".join(map(_value, values))
    if schema.get("type") == "boolean":
        return "true or false"
    low = _end(schema, "minimum", "exclusiveMinimum", "above")
    high = _end(schema, "maximum", "exclusiveMaximum", "below")
    return f"{low} ... {high}" if low and high else low or high


def _end(schema: Mapping[str, Any], inclusive: str, exclusive: str, word: str) -> str:
    end = schema.get(inclusive, schema.get(exclusive))
    if end is None:
        return ""
    text = f"{end:g}" if isinstance(end, float) else str(end)
    return text if inclusive in schema else f"{word} {text}"


def _comment(text: str) -> str:
    indent = len(text) - len(text.lstrip())
    return textwrap.fill(text.strip(), _WIDTH, initial_indent="# " + " " * indent, subsequent_indent="#   ")


def _line(key: str, value: Any) -> str:
    return f"{key} = {_value(value)}"


def _value(value: Any) -> str:
    """As in TOML, in one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").removesuffix("\n")

"""The JSON Schema of study files, for editors; `python -m mtsearch.study_file.schema` prints it."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mtsearch.config import TrialConfig
from mtsearch.definition import StudyDefinition
from mtsearch.errors import MachineError
from mtsearch.files import cache_folder, write_whole
from mtsearch.objectives import METRICS
from mtsearch.study_file.loss_ratio import LossRatio
from mtsearch.study_file.model import ModelSection
from mtsearch.study_file.parameters import Choices, Range
from mtsearch.study_file.searchable import FIELDS, kind_of

Schema = dict[str, Any]


def schema_file() -> Path | None:
    """Write the schema into the cache folder, where editors can read it; None if that cannot be written."""
    target = cache_folder() / f"study-{version('mtsearch')}.schema.json"
    try:
        write_whole(target, as_text().encode())
    except MachineError:
        return None
    return target


def study_schema() -> Schema:
    """What a study file may say; every key, and of every parameter its own range.

    It refuses whatever a table refuses by itself; what the tables must be together only `mtsearch check` knows.
    """
    schema = _of_model(StudyDefinition)
    values = _closed({name: parameter_schema(name) for name in FIELDS})
    tables = schema["properties"]
    for table in tables.values():
        table.pop("default", None)  # that of each key says it
    tables["study"]["properties"]["objectives"] = _objectives(tables["study"]["properties"]["objectives"])
    tables["model"] = _of_model(ModelSection)
    tables["space"] = _closed({name: _searched(name) for name in FIELDS if name != "seed"}) | {
        "description": "What is searched."
    }
    tables["fixed"] = values | {"description": "Values that every trial has."}
    tables["trials"] = {"type": "array", "items": values, "description": "Trials to run first."}
    tables["published"] = {
        "type": "array",
        "items": _closed({key: {"type": "number", "description": metric.summary} for key, metric in METRICS.items()}),
        "description": "What somebody else reported for each of [[trials]].",
    }
    heading = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mtsearch study"}
    return heading | schema


def parameter_schema(name: str) -> Schema:
    """One value of a parameter of [space] or [fixed]."""
    model = LossRatio if name in LossRatio.model_fields else TrialConfig
    schema: Schema = _of_model(model)["properties"][name]
    return schema | {"enum": list(METRICS)} if name == "monitor" else schema


def _searched(name: str) -> Schema:
    one = parameter_schema(name)
    description = one["description"]
    value = {key: inner for key, inner in one.items() if key not in ("description", "default")}
    listed = {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}
    choices = _closed(_described({"choices": listed, "default": value}, Choices), ["choices"])
    if kind_of(name) in ("boolean", "text"):
        return choices | {"description": description}
    step = {"type": value["type"], "exclusiveMinimum": 0}
    keys = {"low": value, "high": value, "log": {"type": "boolean", "default": False}, "step": step, "default": value}
    return {"oneOf": [_closed(_described(keys, Range), ["low", "high"]), choices], "description": description}


def _of_model(model: type[BaseModel]) -> Schema:
    """Pydantic's schema without references, titles and null, which TOML has not."""
    raw = model.model_json_schema()
    schema: Schema = _plain(raw, raw.get("$defs", {}))
    return schema


def _plain(schema: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_plain(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _plain(
            {**definitions[name], **{key: inner for key, inner in schema.items() if key != "$ref"}}, definitions
        )
    members = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    if members and len(members) < len(schema["anyOf"]):
        rest = {key: inner for key, inner in schema.items() if key not in ("anyOf", "default")}
        return _plain({**rest, **(members[0] if len(members) == 1 else {"anyOf": members})}, definitions)
    hidden = {"title", "$defs", "discriminator"}
    return {
        key: _properties(inner, definitions) if key == "properties" else _plain(inner, definitions)
        for key, inner in schema.items()
        if key not in hidden and inner is not None
    }


def _properties(schemas: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    return {name: _plain(schema, definitions) for name, schema in schemas.items()}


def _described(properties: Schema, model: type[BaseModel]) -> Schema:
    """The properties, each with the description of the model's field of that name."""
    fields = model.model_fields
    return {name: schema | {"description": fields[name].description} for name, schema in properties.items()}


def _objectives(schema: Schema) -> Schema:
    two = {"type": "array", "items": {"enum": list(METRICS)}, "minItems": 2, "maxItems": 2, "uniqueItems": True}
    return two | {key: schema[key] for key in ("default", "description")}


def _closed(properties: Schema, required: list[str] | None = None) -> Schema:
    """A table without other keys."""
    table: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return table | {"required": required} if required else table


def as_text() -> str:
    """The schema as JSON."""
    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(as_text(), end="")

"""Make the JSON Schema of study files for editors, and the commented study file of `mtsearch init`."""

import json
import re
import shlex
import tomllib
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError

from mtsearch.errors import DefinitionError, MachineError
from mtsearch.files import cache_folder, write_atomically
from mtsearch.metrics import METRICS
from mtsearch.study_file.config import (
    PARAMETERS,
    WEIGHT,
    LossRatio,
    TaskWeight,
    TrialConfig,
    kind_of,
    task_of_weight,
    weight_name,
)
from mtsearch.study_file.definition import MOST_OBJECTIVES, StudyDefinition, StudySection
from mtsearch.study_file.load import shipped
from mtsearch.study_file.sections import ModelSection
from mtsearch.study_file.space import Choices, Range
from mtsearch.study_file.tasks import NAME
from mtsearch.study_file.validation import config_message
from mtsearch.text import quote, shorten_middle

Schema = dict[str, Any]

_METRIC_OF_TASK = rf"^{NAME.pattern}\.({'|'.join(METRICS)})$"
_METRIC: Schema = {"anyOf": [{"enum": list(METRICS)}, {"type": "string", "pattern": _METRIC_OF_TASK}]}
"""A metric by its bare name, or of a task."""

_ANY_WEIGHT = weight_name("task")
"""One of the parameters that are weights of tasks, which all have the same schema."""


def schema_file() -> Path | None:
    """Write the schema into the cache folder, for editors, and return its path; None if it cannot be written."""
    target = cache_folder() / f"study-{version('mtsearch')}.schema.json"
    try:
        write_atomically(target, schema_text().encode())
    except MachineError:
        return None
    return target


def study_schema() -> Schema:
    """Return the JSON Schema of a study file, with every key and the range of every parameter.

    It covers the rules of each table by itself. Only `mtsearch check` knows the rules between the tables.
    """
    schema = _model_schema(StudyDefinition)
    values = _parameters_schema({name: parameter_schema(name) for name in PARAMETERS}, parameter_schema(_ANY_WEIGHT))
    tables = schema["properties"]
    for table in tables.values():
        table.pop("default", None)  # each key has its own default
    tables["study"]["properties"]["objectives"] = _objectives_schema(tables["study"]["properties"]["objectives"])
    tables["model"] = _model_schema(ModelSection)
    tables["tasks"] |= {"propertyNames": {"pattern": f"^{NAME.pattern}$"}, "description": "What the model learns."}
    searched = {name: _search_schema(name) for name in PARAMETERS if name != "seed"}
    tables["space"] = _parameters_schema(searched, _search_schema(_ANY_WEIGHT)) | {"description": "What is searched."}
    tables["fixed"] = values | {"description": "Values that every trial has."}
    tables["trials"] = {"type": "array", "items": values, "description": "Trials to run first."}
    tables["published"] = {
        "type": "array",
        "items": _table_schema(
            {key: {"type": "number", "description": metric.summary} for key, metric in METRICS.items()}
        )
        | {"patternProperties": {_METRIC_OF_TASK: {"type": "number"}}},
        "description": "What somebody else reported for each of [[trials]].",
    }
    heading = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mtsearch study"}
    return heading | schema


def parameter_schema(name: str) -> Schema:
    """Return the schema of one value of a parameter."""
    if task_of_weight(name):
        weight: Schema = _model_schema(TaskWeight)["properties"]["weight"]
        return weight
    model = LossRatio if name in LossRatio.model_fields else TrialConfig
    schema: Schema = _model_schema(model)["properties"][name]
    return schema | _METRIC if name == "monitor" else schema


def _search_schema(name: str) -> Schema:
    # A parameter of [space] is a range or choices; booleans and texts have choices only.
    one = parameter_schema(name)
    description = one["description"]
    value = {key: inner for key, inner in one.items() if key not in ("description", "default")}
    listed = {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}
    choices = _table_schema(_add_descriptions({"choices": listed, "default": value}, Choices), ["choices"])
    if kind_of(name) in ("boolean", "text"):
        return choices | {"description": description}
    step = {"type": value["type"], "exclusiveMinimum": 0}
    keys = {"low": value, "high": value, "log": {"type": "boolean", "default": False}, "step": step, "default": value}
    return {
        "oneOf": [_table_schema(_add_descriptions(keys, Range), ["low", "high"]), choices],
        "description": description,
    }


def _model_schema(model: type[BaseModel]) -> Schema:
    """Return pydantic's schema of a table without references, titles and null, which TOML does not have."""
    raw = model.model_json_schema()
    schema: Schema = _simplify(raw, raw.get("$defs", {}))
    return schema


def _simplify(schema: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_simplify(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    # A reference is replaced by what it refers to; keys beside it, such as the description, take precedence.
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _simplify(
            {**definitions[name], **{key: inner for key, inner in schema.items() if key != "$ref"}}, definitions
        )
    # An optional value loses its null; if one type is left, the union is dissolved.
    members = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    if members and len(members) < len(schema["anyOf"]):
        rest = {key: inner for key, inner in schema.items() if key not in ("anyOf", "default")}
        return _simplify({**rest, **(members[0] if len(members) == 1 else {"anyOf": members})}, definitions)
    hidden = {"title", "$defs", "discriminator"}
    return {
        key: _simplify_properties(inner, definitions) if key == "properties" else _simplify(inner, definitions)
        for key, inner in schema.items()
        if key not in hidden and inner is not None
    }


def _simplify_properties(schemas: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    return {name: _simplify(schema, definitions) for name, schema in schemas.items()}


def _add_descriptions(properties: Schema, model: type[BaseModel]) -> Schema:
    """Return the properties with the descriptions of the model's fields of the same names."""
    fields = model.model_fields
    return {name: schema | {"description": fields[name].description} for name, schema in properties.items()}


def _objectives_schema(schema: Schema) -> Schema:
    some = {
        "type": "array",
        "items": _METRIC,
        "minItems": 1,
        "maxItems": MOST_OBJECTIVES,
        "uniqueItems": True,
    }
    return some | {key: schema[key] for key in ("default", "description")}


def _parameters_schema(parameters: Schema, weight: Schema) -> Schema:
    """Return the schema of a table of parameters, where weights of tasks have keys "weight.NAME" or are a table."""
    inner = {"type": "object", "additionalProperties": weight, "propertyNames": {"pattern": f"^{NAME.pattern}$"}}
    table = _table_schema(parameters | {"weight": inner | {"description": "Weights of the tasks' normalized losses."}})
    return table | {"patternProperties": {f"^{re.escape(WEIGHT)}{NAME.pattern}$": weight}}


def _table_schema(properties: Schema, required: list[str] | None = None) -> Schema:
    """Return the schema of a table that allows no other keys."""
    table: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return table | {"required": required} if required else table


def schema_text() -> str:
    """Return the schema as JSON text."""
    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"


def write_template(file: Path, changes: Mapping[str, Any] | None = None) -> None:
    """Write a commented study file to start from; the study gets the name of the file.

    Args:
        file: to be written.
        changes: values of keys that stand in the file, in place of those there.

    Raises:
        DefinitionError: the file exists already, or no study can have its name.
        MachineError: the file cannot be written.
    """
    _require_name(file)
    text = template(file.stem, shlex.quote(str(file)), schema_file())
    for key, value in (changes or {}).items():
        line = f"{key} = {json.dumps(value, ensure_ascii=False)}"  # texts and lists of them are the same in TOML
        text = re.sub(rf"^{key} = .*$", line.replace("\\", r"\\"), text, count=1, flags=re.MULTILINE)
    StudyDefinition.from_mapping(tomllib.loads(text), origin=str(file))
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise DefinitionError(f"{file} already exists", "name another file, or remove it first") from None
    except (OSError, ValueError) as error:
        raise MachineError(
            f"{file} cannot be written: {error}", "name a file in a folder that you may write to"
        ) from None


def _require_name(file: Path) -> None:
    """Refuse a file name from which no study can get its name; the name of the study is that without the suffix."""
    if str(file) in shipped():
        problem = f"{file} is the name of a shipped definition, which `mtsearch run {file}` reads"
        raise DefinitionError(problem, f"name the file {file}.toml")
    if not file.name:
        raise DefinitionError(f"{shorten_middle(str(file))} is a folder", "name a file in it, such as study.toml")
    try:
        StudySection(name=file.stem)
    except ValidationError as error:
        problem = f"{quote(str(file))} cannot be the name of a study: {config_message(error)}"
        raise DefinitionError(problem, "name another file") from None


def template(name: str, file: str, schema: Path | None = None) -> str:
    """Return the text of the commented study file, `template.toml`, for one study.

    Args:
        name: name of the study.
        file: path of the study file, quoted for the shell.
        schema: file of the JSON Schema, for editors; None to leave it out.
    """
    text = files("mtsearch.study_file").joinpath("template.toml").read_text(encoding="utf-8")
    named = text.replace("{file}", file).replace('name = "{name}"', tomli_w.dumps({"name": name}).rstrip())
    return f"#:schema {schema.as_uri()}\n{named}" if schema else named


if __name__ == "__main__":
    print(schema_text(), end="")

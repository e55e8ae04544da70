"""The JSON Schema that editors read, and the file to start from."""

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from mtsearch.config import TrialConfig
from mtsearch.definition import DEFAULT, StudyDefinition
from mtsearch.study_file.loss_ratio import NAME, WEIGHTS
from mtsearch.study_file.reading import shipped
from mtsearch.study_file.schema import as_text, shipped_schema, study_schema
from mtsearch.study_file.searchable import FIELDS
from mtsearch.study_file.template import template

from .test_definition import valid_definitions
from .test_definition_space import definitions

SCHEMA = study_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
TABLES = ("study", "data", "split", "constraints")


def test_the_committed_one_is_the_generated_one() -> None:
    told = "python -m mtsearch.study_file.schema > mtsearch/study.schema.json"
    assert shipped_schema().read_text(encoding="utf-8") == as_text(), told
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", list(shipped()))
def test_shipped_definitions_are_valid(name: str) -> None:
    VALIDATOR.validate(tomllib.loads(shipped()[name].read_text(encoding="utf-8")))


@settings(max_examples=50, deadline=None)
@given(valid_definitions())
def test_what_is_read_is_valid(raw: dict[str, Any]) -> None:
    StudyDefinition.from_mapping(raw)
    VALIDATOR.validate(raw)


@settings(max_examples=50, deadline=None)
@given(definitions())
def test_what_is_resolved_is_valid(definition: StudyDefinition) -> None:
    VALIDATOR.validate(definition.resolved())


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ((), "splt", {}),
        (("study",), "sede", 1),
        (("study",), "seed", "1"),
        (("study",), "objectives", ["rmse"]),
        (("study",), "objectives", ["rmse", "top_1"]),
        (("study",), "sampler", {"kindd": "tpe"}),
        (("data",), "sorce", "x"),
        (("split",), "test", 1.5),
        (("constraints",), "max_seconds", 0),
        (("space",), "epoch", {"choices": [1]}),
        (("space",), "epochs", {"low": 0, "high": 3}),
        (("space",), "epochs", {"low": 1, "high": 3, "stp": 1}),
        (("space",), "epochs", {"choices": [1.5]}),
        (("space",), "normalize", {"low": 0, "high": 1}),
        (("space",), "schedule", {"choices": ["cosin"]}),
        (("space",), "hidden_layers", {"choices": ["a"]}),
        (("fixed",), "epoch", 1),
        (("fixed",), "loss_ratio", 13),
        (("fixed",), "monitor", "rmsee"),
    ],
)
def test_it_refuses_what_reading_refuses(place: tuple[str, ...], key: str, value: object) -> None:
    raw: dict[str, Any] = {"study": {"name": "s"}, "space": {"learning_rate": {"low": 0.1, "high": 1}}}
    VALIDATOR.validate(raw)
    table = raw = copy.deepcopy(raw)
    for each in place:
        table = table.setdefault(each, {})
    table[key] = value
    assert not VALIDATOR.is_valid(raw)
    with pytest.raises(ValueError, match="validation error"):
        StudyDefinition.model_validate(raw)


def test_every_key_is_described() -> None:
    for table in TABLES:
        for key, schema in SCHEMA["properties"][table]["properties"].items():
            assert schema["description"], f"{table}.{key}"
    assert all(field.description for field in FIELDS.values())
    for table in ("space", "fixed"):
        assert all(schema["description"] for schema in SCHEMA["properties"][table]["properties"].values())


class TestTemplate:
    text = template("mine", "mine.toml")

    def options(self) -> dict[str, str]:
        """Every `key = value` by `table.key`, those behind # too."""
        found, table = {}, ""
        for line in self.text.splitlines():
            if heading := re.fullmatch(r"(?:# )?\[+(\w+)\]+", line):
                table = heading[1]
            elif option := re.fullmatch(r"(?:# )?(\w+) = (.*)", line):
                found[f"{table}.{option[1]}"] = option[2]
        return found

    def test_it_is_the_default_definition(self) -> None:
        default = StudyDefinition.load(DEFAULT, values={"study.name": "mine"})
        assert StudyDefinition.from_mapping(tomllib.loads(self.text)) == default
        assert max(map(len, self.text.splitlines()[1:])) <= 120

    def test_it_names_every_option(self) -> None:
        options = self.options()
        expected = {f"{table}.{key}" for table in TABLES for key in SCHEMA["properties"][table]["properties"]}
        searched = StudyDefinition.load(DEFAULT).space
        expected |= {f"space.{name}" if name in searched else f"fixed.{name}" for name in FIELDS}
        assert expected <= options.keys()
        assert {"trials", "published"} <= {key.partition(".")[0] for key in options}

    def test_what_is_behind_the_signs_can_be_used(self) -> None:
        """The defaults written out resolve to the same; the weights and their ratio exclude each other."""
        raw = tomllib.loads(self.text)
        for place, value in self.options().items():
            table, key = place.split(".")
            if table in ("trials", "published") or value == "..." or key in (NAME, *WEIGHTS):
                continue
            raw.setdefault(table, {}).setdefault(key, tomllib.loads(f"x = {value}")["x"])
        written, plain = StudyDefinition.from_mapping(raw), StudyDefinition.from_mapping(tomllib.loads(self.text))
        assert written.study == plain.study and written.split == plain.split and written.data == plain.data
        assert TrialConfig.model_validate({"learning_rate": 0.1, **without_weights(written.fixed)}) == TrialConfig(
            **without_weights(plain.fixed)
        )

    def test_it_points_at_the_schema(self) -> None:
        first = self.text.splitlines()[0]
        assert first == f"#:schema {shipped_schema().as_uri()}"
        assert Path(first.removeprefix("#:schema file://")).is_file()


def without_weights(fixed: Any) -> dict[str, Any]:
    return {name: value for name, value in fixed.items() if name not in (NAME, *WEIGHTS)}

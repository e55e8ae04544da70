"""The JSON Schema that editors read."""

import copy
import json
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from mtsearch.errors import DefinitionError
from mtsearch.study_file.config import PARAMETERS
from mtsearch.study_file.definition import StudyDefinition
from mtsearch.study_file.load import shipped
from mtsearch.study_file.schema import schema_file, study_schema
from tests.study_file.test_definition import valid_definitions
from tests.study_file.test_space import definitions

SCHEMA = study_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
TABLES = ("study", "data", "split", "constraints")


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_it_is_written_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTSEARCH_CACHE", str(tmp_path / "cache"))
    file = schema_file()
    assert file == tmp_path / "cache" / f"study-{version('mtsearch')}.schema.json"
    file.write_text("damaged")
    assert schema_file() == file
    assert json.loads(file.read_text(encoding="utf-8")) == SCHEMA
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_it_is_printed() -> None:
    printed = subprocess.run([sys.executable, "-m", "mtsearch.study_file.schema"], stdout=subprocess.PIPE, check=True)
    assert json.loads(printed.stdout) == SCHEMA


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
        (("study",), "objectives", []),
        (("study",), "objectives", ["rmse", "rmse"]),
        (("study",), "objectives", ["rmse", "mae", "mrr", "coverage", "ndcg_10"]),
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


SHOP: dict[str, Any] = {
    "study": {"name": "s", "losses": "normalized", "objectives": ["purchase.top_100", "stars.rmse", "auc"]},
    "tasks": {
        "view": {"kind": "retrieval", "where": "event = 'view'"},
        "purchase": {"kind": "retrieval", "where": "event = 'purchase'"},
        "stars": {"kind": "rating", "target": "stars"},
        "returned": {"kind": "label", "target": "returned"},
    },
    "space": {
        "weight.view": {"low": 0.01, "high": 1, "log": True},
        "sharing": {"choices": ["all", "experts"]},
        "experts": {"low": 2, "high": 8},
    },
    "fixed": {"weight.stars": 0.5, "monitor": "stars.rmse", "patience": 3},
    "trials": [{"weight.view": 0.1}],
    "published": [{"purchase.top_100": 0.4, "auc": 0.7}],
}


def test_several_tasks_are_valid() -> None:
    nested = {
        **SHOP,
        "space": {"weight": {"view": {"low": 0.01, "high": 1.0}, "purchase": {"choices": [0.5, 1]}}},
        "fixed": {"weight": {"stars": 0.5}},
    }
    for raw in (SHOP, nested):
        VALIDATOR.validate(raw)
        resolved = StudyDefinition.from_mapping(raw).resolved()
        VALIDATOR.validate(resolved)
        assert StudyDefinition.from_mapping(resolved).resolved() == resolved


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("study", "objectives", ["purchase.top_1"]),
        ("study", "objectives", ["Purchase.top_100"]),
        ("study", "losses", "normalised"),
        ("tasks", "Purchase", {"kind": "retrieval"}),
        ("tasks", "purchase", {"kind": "ranking"}),
        ("tasks", "purchase", {}),
        ("tasks", "purchase", {"kind": "retrieval", "were": "true"}),
        ("space", "weight.view", {"low": -1, "high": 1}),
        ("space", "weight", {"view": 1.0}),
        ("fixed", "weight.view", "1"),
        ("fixed", "weight", {"view": -1}),
        ("fixed", "weights", {"view": 1}),
        ("fixed", "monitor", "stars.rmsee"),
        ("fixed", "sharing", "some"),
        ("fixed", "experts", 1),
    ],
)
def test_it_refuses_mistakes_in_tasks(table: str, key: str, value: object) -> None:
    raw = copy.deepcopy(SHOP)
    raw[table][key] = value
    assert not VALIDATOR.is_valid(raw)
    with pytest.raises(DefinitionError):
        StudyDefinition.from_mapping(raw)


def test_every_key_is_described() -> None:
    for table in TABLES:
        for key, schema in SCHEMA["properties"][table]["properties"].items():
            assert schema["description"], f"{table}.{key}"
    assert all(field.description for field in PARAMETERS.values())
    for table in ("space", "fixed"):
        assert all(schema["description"] for schema in SCHEMA["properties"][table]["properties"].values())

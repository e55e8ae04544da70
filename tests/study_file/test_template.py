"""The commented study file: it names every table and key, and its comments are true."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mtsearch.metrics import METRICS
from mtsearch.study_file import sections
from mtsearch.study_file.config import LOSS_RATIO, LOSS_WEIGHTS, PARAMETERS, default_of
from mtsearch.study_file.definition import DEFAULT, StudyDefinition
from mtsearch.study_file.schema import study_schema, template
from mtsearch.study_file.space import Section

pytestmark = pytest.mark.quick

TEXT = template("mine", "mine.toml")
RAW = tomllib.loads(TEXT)
SCHEMA = study_schema()["properties"]
SECTIONS = ("study", "data", "split", "tasks", "constraints", "model")
KINDS = {"sampler": sections.SAMPLERS, "pruner": sections.PRUNERS}
NEEDED = {  # by examples of options that go with others
    "k": {"method": "leave_last"},
    "column": {"method": "column"},
    "item_columns": {"items": "items.csv"},
    "folder": {"factory": "my_model:make"},
    "group": {"method": "random"},
}


class Option(NamedTuple):
    """A line `key = value`, with or without `#`, and the comment above it."""

    table: str
    key: str
    value: Any
    is_set: bool
    comment: str


def options() -> Iterator[Option]:
    table = comment = ""
    for line in TEXT.splitlines():
        if heading := re.fullmatch(r"(?:# )?\[+(\w+)(?:\.\w+)?\]+", line):
            table = heading[1]
        elif option := re.fullmatch(r"(# )?(\w+) = (.*)", line):
            yield Option(table, option[2], tomllib.loads(f"x = {option[3]}")["x"], not option[1], comment)
            comment = comment if option[2] in KINDS else ""  # one for all lines of an option with kinds
        else:
            comment = f"{comment} {line.removeprefix('# ')}" if line else ""


OPTIONS = list(options())
OF_SECTIONS = [option for option in OPTIONS if option.table in SECTIONS]
OF_PARAMETERS = [option for option in OPTIONS if option.table in ("space", "fixed")]


def named(option: Option) -> str:
    return f"{option.table}.{option.key}"


def keys_of(table: str) -> dict[str, Any]:
    """The schemas of the keys of a table; of [tasks.NAME] those that every task has."""
    schema: dict[str, Any] = SCHEMA[table].get("additionalProperties") or SCHEMA[table]
    return schema["properties"]  # type: ignore[no-any-return]


def test_it_is_the_default_definition() -> None:
    assert StudyDefinition.from_mapping(RAW) == StudyDefinition.load(DEFAULT, values={"study.name": "mine"})
    assert max(map(len, TEXT.splitlines())) <= 120


def test_it_names_everything() -> None:
    assert {option.table for option in OPTIONS} == SCHEMA.keys()
    assert {named(option) for option in OF_SECTIONS} == {
        f"{table}.{key}" for table in SECTIONS for key in keys_of(table)
    }
    assert sorted(option.key for option in OF_PARAMETERS) == sorted(PARAMETERS)


@pytest.mark.parametrize("option", [each for each in OF_SECTIONS if each.table == "tasks"], ids=named)
def test_an_option_of_a_task_can_be_set(option: Option) -> None:
    task = {"kind": "rating" if option.key == "target" else "retrieval", option.key: option.value}
    objective = "rmse" if task["kind"] == "rating" else "purchase.top_100"
    written = StudyDefinition.from_mapping({
        **RAW,
        "study": {"name": "mine", "objectives": [objective]},
        "tasks": {"purchase": task},
        "space": {"weight.purchase": {"low": 0.5, "high": 1.0}},
    })  # fmt: skip
    assert getattr(written.tasks["purchase"], option.key) == option.value


def test_the_weight_of_a_task_can_be_set_and_shows_its_default() -> None:
    (line,) = re.findall(r"^# (weight\.purchase = .*)$", TEXT, re.MULTILINE)
    fixed = tomllib.loads(line)
    written = StudyDefinition.from_mapping({
        **RAW,
        "study": {"name": "mine", "objectives": ["top_100"]},
        "tasks": {"purchase": {"kind": "retrieval"}},
        "space": {"epochs": {"low": 1, "high": 2}},
        "fixed": fixed,
    })  # fmt: skip
    assert written.fixed == {"weight.purchase": default_of("weight.purchase")}


@pytest.mark.parametrize("option", [each for each in OF_SECTIONS if each.table != "tasks"], ids=named)
def test_an_option_of_a_section_can_be_set_and_shows_its_default(option: Option) -> None:
    raw = {option.table: {**RAW.get(option.table, {}), **NEEDED.get(option.key, {}), option.key: option.value}}
    # A custom model has losses of its own, without weights of tasks.
    space = {"space": {"epochs": {"low": 1, "high": 2}}, "fixed": {}} if option.table == "model" else {}
    written = StudyDefinition.from_mapping({**RAW, **space, **raw})
    model = getattr(written, option.table)
    field = type(model).model_fields[option.key]
    if not (option.is_set or field.is_required() or field.default is None or isinstance(field.default, Section)):
        assert getattr(model, option.key) == field.default


@pytest.mark.parametrize("option", OF_PARAMETERS, ids=named)
def test_a_parameter_can_be_set_and_shows_its_default(option: Option) -> None:
    if not option.is_set:
        assert option.value == PARAMETERS[option.key].default
        without_weights = {key: value for key, value in RAW["space"].items() if key != "weight"}
        space = without_weights if option.key in (LOSS_RATIO, *LOSS_WEIGHTS) else RAW["space"]
        written = StudyDefinition.from_mapping({**RAW, "space": space, "fixed": {option.key: option.value}})
        assert written.fixed == {option.key: option.value}


@pytest.mark.parametrize("key", KINDS)
def test_every_kind_is_shown_with_its_options_at_their_defaults(key: str) -> None:
    shown = [dict(option.value) for option in OPTIONS if option.key == key]
    assert [each["kind"] for each in shown] == list(KINDS[key])
    for each in shown:
        known = KINDS[key][each.pop("kind")]
        assert each.keys() == known.keys()
        assert {**each, **{name: None for name in known if known[name] is None}} == known


def limits(schema: dict[str, Any]) -> Iterator[str]:
    """Yield the limits and words of a schema and its parts, as the template writes them."""
    for key, value in schema.items():
        if key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            whole = schema.get("type") == "integer"
            yield f"{value - 1 if whole and key == 'exclusiveMaximum' else value:.15g}"
        elif key in ("enum", "const"):
            yield from filter(lambda word: isinstance(word, str), value if key == "enum" else [value])
        elif isinstance(value, dict):
            yield from limits(value)
        elif isinstance(value, list):
            for each in value:
                yield from limits(each) if isinstance(each, dict) else ()


@pytest.mark.parametrize("option", [*OF_SECTIONS, *OF_PARAMETERS], ids=named)
def test_the_comment_says_which_values_are_allowed(option: Option) -> None:
    if option.key == "monitor":
        return  # which points at the objectives
    schemas = keys_of("fixed" if option.table == "space" else option.table)
    comment = re.sub(r"\b1e(\d)\b", lambda power: "1" + "0" * int(power[1]), option.comment)
    said = {*re.findall(r"-?\d+(?:\.\d+)?|\w+", comment), *comment.split(), str(option.value)}
    if option.key in KINDS:
        properties = {name: each for name, each in schemas[option.key]["properties"].items() if name in option.value}
        assert properties.pop("kind")["enum"] == list(KINDS[option.key])
        assert set(limits(properties)) <= said
    else:
        assert set(limits(schemas[option.key])) <= said


def test_the_tables_behind_signs_can_be_used_together() -> None:
    tables = TEXT[TEXT.index("# [model]") :]
    raw = tomllib.loads("\n".join(re.findall(r"^# (\[+\w+\]+|\w+ = .*)$", tables, re.MULTILINE)))
    weights = {"rating_weight": {"low": 0.1, "high": 1.0}}
    space = {**{key: value for key, value in RAW["space"].items() if key != "weight"}, **weights}
    definition = StudyDefinition.from_mapping({**RAW, **raw, "space": space})
    assert definition.model and definition.trials and definition.published


def test_every_metric_is_named() -> None:
    (comment,) = (option.comment for option in OPTIONS if option.key == "objectives")
    assert set(METRICS) <= set(re.findall(r"\w+", comment))


@pytest.mark.parametrize("name", ['a "b"', r"a\b", "{file}", "ä"])
def test_any_name_of_a_study(name: str) -> None:
    assert tomllib.loads(template(name, "x.toml"))["study"]["name"] == name


def test_it_points_at_the_schema(tmp_path: Path) -> None:
    text = template("mine", "mine.toml", tmp_path / "a b.json")
    assert text == f"#:schema {(tmp_path / 'a b.json').as_uri()}\n{TEXT}"

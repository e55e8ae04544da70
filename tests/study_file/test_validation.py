"""A study file with many mistakes: the message has one line for each, with its place."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from mtsearch.errors import DefinitionError
from mtsearch.study_file.definition import StudyDefinition
from tests.study_file.test_definition import load_refusal, refusal

pytestmark = pytest.mark.quick

MANY = """
[study]
seed = "one"
objectives = ["rmse", "top_10O"]
sampler = { kind = "cmaess" }
[splt]
seed = 1
[data]
sorce = "movielens/100k"
[constraints]
max_parameters = 0
[space]
learning_rate = { low = 1.0, high = 0.1 }
embeding_size = { choices = [16] }
epochs = { low = 0, high = 3 }
l2 = { low = 0, high = 1, lwo = 2 }
batch_size = { low = 100, high = 1000 }
normalize = { low = 0, high = 1 }
temperature = 3
hidden_dropout = { low = 0.1 }
[fixed]
epochs = 3
patience = 2000000
dot_product = [1]
[[trials]]
batch_size = 1
learning_rate = 0.5
[[published]]
rmsee = 1
"""
SAID = {
    "study.name is missing: add it",
    "study.seed: input should be a valid integer, not 'one'",
    "study.objectives: unknown metric 'top_10O' (did you mean 'top_10'?)",
    "unknown key 'splt' (did you mean 'split'?)",
    "unknown key 'data.sorce' (did you mean 'source'?)",
    "constraints.max_parameters: input should be greater than 0, not 0",
    "space.learning_rate: low = 1.0 is above high = 0.1",
    "space.embeding_size: unknown parameter (did you mean 'embedding_size'?)",
    "space.epochs.low: input should be greater than or equal to 1, not 0",
    "unknown key 'space.l2.lwo' (did you mean 'low'?)",
    "space.normalize: a boolean has no low and high: use {choices = [true, false]}",
    "space.temperature = 3 is not a range: write {low = ..., high = ...} or {choices = [...]}",
    "space.hidden_dropout.high is missing: add it",
    "'epochs' is both in [space] and in [fixed]: remove one",
    "fixed.patience: input should be less than or equal to 100000, not 2000000",
    "fixed.dot_product: input should be a number, text, true or false, not [1]",
    "[[trials]] number 1: batch_size = 1 is outside its [space] or between its steps",
    "[[published]] number 1: rmsee: unknown metric (did you mean 'rmse'?)",
}


def test_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "many.toml"
    path.write_text(MANY)
    with pytest.raises(DefinitionError) as caught:
        StudyDefinition.load(str(path))
    lines = [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]
    of_sampler = [line for line in lines if "sampler" in line]
    assert len(of_sampler) == 1 and "cmaess" in of_sampler[0]
    assert {*lines} - {*of_sampler} == SAID
    assert len(lines) == len({*lines})
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_mending_one_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "many.toml"
    path.write_text(MANY.replace('seed = "one"', "seed = 1"))
    with pytest.raises(DefinitionError) as caught:
        StudyDefinition.load(str(path))
    assert len(str(caught.value).splitlines()) == len(SAID)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        # What is wrong in a table makes nothing else look wrong.
        ({"space": {"learning_rate": {"low": 2, "high": 1}}, "trials": [{"learning_rate": 1}]}, "is above high"),
        ({"space": {"learning_rate": {"low": 1}}}, "space.learning_rate.high is missing: add it"),
        ({"space": 3}, "space: 3 is not a table"),
        ({"space": {}, "trials": [{"epoch": 1}]}, "[[trials]] number 1: epoch: unknown parameter (did you mean"),
        ({"trials": [{"epoch": 1}], "published": [{"rmse": 1.0}]}, "epoch: unknown parameter"),
        ({"trials": 3}, "trials: is not a list of tables: write [[trials]]"),
        ({"study": {"name": "s", "sampler": {"kindd": "tpe"}}}, "'study.sampler.kindd' (did you mean 'kind'?)"),
        ({"space": {"epochs": {"low": 1, "high": 2, "stp": 1}}}, "'space.epochs.stp' (did you mean 'step'?)"),
        ({"space": {"epochs": {"choices": [1], "log": True}}}, "space.epochs: choices and log exclude each other"),
        ({"space": {"epochs": {"choices": 8}}}, "space.epochs.choices: 8 is not a list: write [...]"),
        ({"study": {"name": "s", "sampler": "tpe"}}, """study.sampler: 'tpe' is not a table: write { kind = "tpe" }"""),
        ({"constraints": {"max_second": 1}}, "unknown key 'constraints.max_second' (did you mean 'max_seconds'?)"),
        ({"split": {"tst": 0.1}}, "unknown key 'split.tst' (did you mean 'test'?)"),
        ({"fixed": {"\x1b[31m\n": 1}}, "fixed.'\\x1b[31m\\n': unknown parameter"),
        ({"fixed": {"epoch": 1}}, "fixed.epoch: unknown parameter (did you mean 'epochs'?)"),
    ],
)  # fmt: skip
def test_one_alone_is_one_line(tables: dict[str, Any], said: str) -> None:
    assert said in refusal(**tables)


HIDING = """
[study]
name = "hiding"
sampler = { kind = "nsga2", n_startup_trials = 5, populaton_size = 3 }
[split]
method = "leave_last"
test = 0.2
k = 0
[space]
dot_product = { low = 0, high = 1 }
temperature = { low = 0, high = 1 }
seed = { low = 0, high = 3 }
[fixed]
epochs = "3"
optimizer = "adm"
"""


def test_none_hides_another(tmp_path: Path) -> None:
    """All mistakes are reported, also those that can be found only without the others."""
    path = tmp_path / "hiding.toml"
    path.write_text(HIDING)
    with pytest.raises(DefinitionError) as refused:
        StudyDefinition.load(str(path))
    lines = str(refused.value).splitlines()
    said = [
        "unknown key 'study.sampler.populaton_size'",
        "n_startup_trials is not an option of 'nsga2'",
        "split.k: input should be greater than or equal to 1, not 0",
        "space.dot_product: a boolean has no low and high",
        "space.temperature",
        "space.seed",
        "fixed.epochs",
        "fixed.optimizer",
    ]
    for text in said:
        assert len([line for line in lines if text in line]) == 1
    assert len(lines) == len(said)


def test_the_mapping_that_was_given_is_left_as_it_was() -> None:
    raw = {"study": {"name": "s", "sede": 1}, "space": {"epochs": {"low": 2, "high": 1}}}
    with pytest.raises(DefinitionError):
        StudyDefinition.from_mapping(raw)
    assert raw == {"study": {"name": "s", "sede": 1}, "space": {"epochs": {"low": 2, "high": 1}}}


def test_a_bound_of_the_space_can_be_set() -> None:
    space = StudyDefinition.load("ml-100k-quick", ["space.learning_rate.high=0.5"]).space
    assert space["learning_rate"].extremes() == (0.01, 0.5)
    said = load_refusal("ml-100k-quick", "space.learning_rate.hihg=0.5")
    assert "unknown key 'space.learning_rate.hihg' (did you mean 'high'?)" in said

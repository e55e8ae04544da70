"""Parameters that may be searched and fixed, `loss_ratio`, starting points, and the way back to TOML."""

import math
import tomllib
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsearch.metrics import metrics_of
from mtsearch.search.space import Space
from mtsearch.study_file.config import PARAMETERS, TrialConfig, kind_of
from mtsearch.study_file.definition import StudyDefinition
from mtsearch.study_file.export import Export
from mtsearch.study_file.space import Choices
from tests.helpers.exports import made
from tests.study_file.test_definition import make, refusal

pytestmark = pytest.mark.quick

WORDS: dict[str, list[str]] = {
    "balance": ["fixed", "uncertainty", "dwa"],
    "retrieval_loss": ["in_batch", "corrected", "full", "squared"],
    "optimizer": ["adagrad", "adam", "adamw", "sgd"],
    "schedule": ["constant", "cosine"],
    "precision": ["float32", "bfloat16"],
    "hidden_layers": ["", "64", "256-128"],
    "sharing": ["all", "projections", "experts"],
    "monitor": list(metrics_of()),
}
NUMBERS: dict[str, tuple[float, float]] = {
    "rating_weight": (1e-6, 1e9),
    "retrieval_weight": (0, 1e9),
    "loss_ratio": (-12, 12),
    "temperature": (1e-3, 1e3),
    "embedding_dropout": (0, 0.99),
    "hidden_dropout": (0, 0.99),
    "learning_rate": (1e-6, 1e3),
    "l2": (0, 1e6),
    "unobserved_weight": (0, 1e6),
    "weight_decay": (0, 0.99),
}
WHOLE: dict[str, tuple[int, int]] = {
    "experts": (2, 64),
    "embedding_size": (1, 4096),
    "batch_size": (1, 2**24),
    "epochs": (1, 100_000),
    "patience": (0, 100_000),
    "seed": (0, 2**31 - 1),
}


def values(name: str) -> st.SearchStrategy[Any]:
    if kind_of(name) == "boolean":
        return st.booleans()
    if name in WORDS:
        return st.sampled_from(WORDS[name])
    return st.integers(*WHOLE[name]) if name in WHOLE else st.floats(*NUMBERS[name])


@st.composite
def parameters(draw: st.DrawFn, name: str) -> dict[str, Any]:
    if kind_of(name) in ("boolean", "text") or draw(st.booleans()):
        choices = draw(st.lists(values(name), min_size=1, max_size=4, unique=True))
        default = {"default": draw(st.sampled_from(choices))} if draw(st.booleans()) else {}
        return {"choices": choices, **default}
    low, high = sorted([draw(values(name)), draw(values(name))])
    parameter: dict[str, Any] = {"low": low, "high": high, "log": low > 0 and draw(st.booleans())}
    if draw(st.booleans()):
        parameter["default"] = draw(st.sampled_from([low, high]))
    return parameter


@st.composite
def definitions(draw: st.DrawFn) -> StudyDefinition:
    weights = draw(st.sampled_from([["loss_ratio"], ["rating_weight", "retrieval_weight"]]))
    names = [name for name in PARAMETERS if name not in ("loss_ratio", "rating_weight", "retrieval_weight", "seed")]
    searched = {*draw(st.lists(st.sampled_from([*names, *weights]), unique=True, min_size=1))}
    if len(weights) > 1 and searched & {*weights}:
        searched.discard("batch_size")
    space = {name: draw(parameters(name)) for name in sorted(searched) or ["epochs"]}
    rest = [name for name in [*names, *weights, "seed"] if name not in space]
    fixed = {name: draw(values(name)) for name in draw(st.lists(st.sampled_from(rest), unique=True))}
    return make(space=space, fixed=fixed)


def test_every_field_has_values_here() -> None:
    booleans = {name for name in PARAMETERS if kind_of(name) == "boolean"}
    assert booleans | {*WORDS} | {*NUMBERS} | {*WHOLE} == {*PARAMETERS}


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(definitions(), st.integers(0, 100))
def test_what_a_study_samples_is_inside_and_comes_back_from_toml(definition: StudyDefinition, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    space = Space(definition)
    study.enqueue_trial(definition.starting_point())
    for _ in range(3):
        trial = study.ask()
        config = space.sample(trial)
        written = tomllib.loads(made().model_copy(update={"config": config}).to_toml())
        # Compared as written: parameters of a part that the configuration does not have are left out.
        assert Export.model_validate(written).config.model_dump() == config.model_dump()
        assert {key: type(value) for key, value in written["config"].items()} == {
            key: type(value) for key, value in config.model_dump().items()
        }
        assert list(trial.params) == [name for name in PARAMETERS if name in definition.space]
        for name, value in trial.params.items():
            assert value in definition.space[name]
            if name != "loss_ratio":
                assert getattr(config, name) == value
                assert type(getattr(config, name)) is type(TrialConfig.model_fields[name].default)
        for name, value in definition.fixed.items():
            assert name == "loss_ratio" or getattr(config, name) == value
        ratio = trial.params.get("loss_ratio", definition.fixed.get("loss_ratio"))
        if ratio is not None:
            told = math.log10(config.retrieval_weight * config.batch_size / config.rating_weight)
            assert told == pytest.approx(ratio, abs=1e-9)
            assert config.rating_weight + config.retrieval_weight * config.batch_size == pytest.approx(1, abs=1e-12)
        if trial.number == 0:
            assert trial.params == definition.starting_point()


def test_weights_of_a_ratio_by_hand() -> None:
    """Ratio 1 at 10 rows: 10/11 of a row's loss is retrieval, a tenth of that per row of the sum."""
    space = Space(make(space={"loss_ratio": {"low": -1, "high": 1}, "batch_size": {"choices": [10, 100]}}))
    config = space.config({"loss_ratio": 1, "batch_size": 10})
    assert [config.rating_weight, config.retrieval_weight] == pytest.approx([1 / 11, 1 / 11])
    assert space.config({"loss_ratio": 1, "batch_size": 100}).retrieval_weight == pytest.approx(1 / 110)
    assert Space(make(fixed={"loss_ratio": 0.0})).config({"learning_rate": 0.1}).rating_weight == 0.5


class RefusedTests:
    @pytest.mark.parametrize(
        ("tables", "said"),
        [
            (
                {"space": {"normalize": {"low": 0, "high": 1}}},
                "space.normalize: a boolean has no low and high: use {choices = [true, false]}",
            ),
            (
                {"space": {"schedule": {"low": 0, "high": 1}}},
                "space.schedule: a text has no low and high: use {choices = [...]}",
            ),
            (
                {"space": {"normalize": {"choices": [0, 1]}}},
                "space.normalize.choices: input should be a valid boolean, not 0",
            ),
            (
                {"space": {"hidden_layers": {"choices": ["64", "a"]}}},
                "space.hidden_layers.choices: 'a' does not have the form of '256-128'",
            ),
            (
                {"space": {"loss_ratio": {"low": -13, "high": 1}}},
                "space.loss_ratio.low: input should be greater than or equal to -12, not -13",
            ),
            ({"fixed": {"loss_ratio": 13}}, "fixed.loss_ratio: input should be less than or equal to 12, not 13"),
            (
                {"space": {"loss_ratio": {"low": -1, "high": 1}}, "fixed": {"rating_weight": 1.0}},
                "loss_ratio replaces both weights, but rating_weight is given too: remove one of them",
            ),
            (
                {"fixed": {"loss_ratio": 0.0}, "space": {"retrieval_weight": {"low": 0.1, "high": 1}}},
                "loss_ratio replaces both weights, but retrieval_weight is given too: remove one of them",
            ),
            (
                {"space": {}, "trials": [{"loss_ratio": 0}, {"loss_ratio": 1, "rating_weight": 1}]},
                "loss_ratio replaces both weights, but rating_weight is given too: remove one of them",
            ),
            (
                {"space": {}, "trials": [{"loss_ratio": 0}, {"epochs": 1}]},
                "[[trials]] number 2: loss_ratio is missing, but other trials have it: add it",
            ),
            (
                {"space": {"learning_rate": {"low": 0.1, "high": 1, "default": 2}}},
                "space.learning_rate: default = 2 is outside low ... high or between the steps",
            ),
            (
                {"space": {"learning_rate": {"low": 0, "high": 1, "step": 0.5, "default": 0.2}}},
                "space.learning_rate: default = 0.2 is outside low ... high or between the steps",
            ),
            (
                {"space": {"epochs": {"choices": [1, 2], "default": True}}},
                "space.epochs: default = true is not among the choices",
            ),
            (
                {"space": {"epochs": {"low": 1, "high": 3, "default": 2.0}}},
                "space.epochs.default: input should be a valid integer, not 2.0",
            ),
            (
                {"fixed": {"rating_weight": 0, "retrieval_weight": 0.0}},
                "[fixed]: rating_weight and retrieval_weight are both 0: nothing would be learnt",
            ),
            (
                {"space": {"rating_weight": {"choices": [0, 1]}, "retrieval_weight": {"choices": [0, 1]}}},
                "space.rating_weight = 0 with retrieval_weight = 0: "
                "rating_weight and retrieval_weight are both 0: nothing would be learnt",
            ),
        ],
    )
    def test_in_one_line(self, tables: dict[str, Any], said: str) -> None:
        assert refusal(**tables) == f"definition: {said}"

    @pytest.mark.parametrize("weight", ["rating_weight", "retrieval_weight"])
    def test_a_weight_beside_a_searched_batch_size(self, weight: str) -> None:
        batch_size = {"choices": [256, 8192]}
        said = refusal(space={weight: {"low": 0.1, "high": 1}, "batch_size": batch_size})
        assert said.startswith(f"definition: space.{weight}: ")
        assert said.endswith("search loss_ratio in place of both weights")
        make(space={"loss_ratio": {"low": -1, "high": 1}, "batch_size": batch_size})


class StartTests:
    @pytest.mark.parametrize(
        ("name", "parameter", "start"),
        [
            ("learning_rate", {"low": 0.01, "high": 1, "default": 0.5}, 0.5),
            ("learning_rate", {"low": 0.01, "high": 1}, 0.1),  # TrialConfig's
            ("learning_rate", {"low": 1, "high": 100, "log": True}, 10),
            ("learning_rate", {"low": 1, "high": 3}, 2),
            ("learning_rate", {"low": 0.2, "high": 0.7, "step": 0.1}, 0.4),
            ("learning_rate", {"choices": [0.3, 0.2]}, 0.3),
            ("learning_rate", {"choices": [0.3, 0.1]}, 0.1),
            ("embedding_size", {"low": 64, "high": 256, "log": True}, 128),
            ("embedding_size", {"low": 40, "high": 70, "step": 10}, 60),
            ("embedding_size", {"low": 64, "high": 67}, 66),
            ("normalize", {"choices": [True, False]}, False),
            ("normalize", {"choices": [True]}, True),
            ("loss_ratio", {"low": -3, "high": 3}, 0.0),
            ("loss_ratio", {"low": 1, "high": 3}, 1),
            ("loss_ratio", {"low": -3.0, "high": -2.0}, -2.0),
            ("loss_ratio", {"choices": [2.0, 1.0]}, 2.0),
        ],
    )
    def test_of_one_parameter(self, name: str, parameter: dict[str, Any], start: object) -> None:
        point = make(space={name: parameter}).starting_point()
        assert point == {name: pytest.approx(start)}
        assert isinstance(point[name], int) == (kind_of(name) in ("whole number", "boolean")) or name == "loss_ratio"

    @settings(max_examples=100, deadline=None)
    @given(definitions())
    def test_is_inside_and_of_the_right_type(self, definition: StudyDefinition) -> None:
        for point in (definition.starting_point(), definition.unit_weights()):
            if point is not None:
                assert all(point[name] in parameter for name, parameter in definition.space.items())
                Space(definition).config(point)

    def test_unit_weights(self) -> None:
        weights = {"rating_weight": {"low": 0.1, "high": 1}, "retrieval_weight": {"low": 1e-6, "high": 1, "log": True}}
        assert make(space=weights).unit_weights() == make(space=weights).starting_point()
        weights["retrieval_weight"]["default"] = 1e-3
        assert make(space=weights).unit_weights() == {"rating_weight": 1.0, "retrieval_weight": 1.0}
        weights["retrieval_weight"] |= {"high": 0.1, "default": 0.01}
        assert make(space=weights).unit_weights() is None
        assert make().unit_weights() == make().starting_point()
        rating = {"rating_weight": {"low": 0.1, "high": 1, "default": 0.5}}
        assert make(space=rating).unit_weights() == {"rating_weight": 1.0}
        assert make(space=rating, fixed={"retrieval_weight": 0.5}).unit_weights() is None

    def test_unit_weights_as_a_ratio(self) -> None:
        space: dict[str, Any] = {"loss_ratio": {"low": -3, "high": 5}}
        assert make(space=space, fixed={"batch_size": 1000}).unit_weights() == pytest.approx({"loss_ratio": 3})
        space["batch_size"] = {"choices": [100, 10]}
        assert make(space=space).unit_weights() == pytest.approx({"loss_ratio": 2, "batch_size": 100})
        assert make(space={"loss_ratio": {"low": -3, "high": 1}}).unit_weights() is None

    def test_a_definition_that_searches_nothing(self) -> None:
        definition = StudyDefinition.load("tutorial")
        assert definition.starting_point() == definition.unit_weights() == {}


def test_constraints() -> None:
    definition = make(constraints={"max_parameters": 10, "max_seconds": 1})
    assert (definition.constraints.max_parameters, definition.constraints.max_seconds) == (10, 1.0)
    assert make().constraints.max_seconds is None
    assert "constraints.max_seconds: input should be greater than 0" in refusal(constraints={"max_seconds": 0})
    assert "constraints.max_parameters: input should be a valid integer" in refusal(constraints={"max_parameters": 1.5})


def test_listed_trials_of_a_ratio_are_a_space_of_their_own() -> None:
    space = Space(make(space={}, trials=[{"loss_ratio": 0.0}, {"loss_ratio": 1.0}], fixed={"epochs": 1}))
    assert space.parameters == {"loss_ratio": Choices(choices=(0.0, 1.0))}
    assert space.config(space.own_trials[1]).retrieval_weight == pytest.approx(10 / 11 / 8192)

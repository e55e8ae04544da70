"""Samplers: their options, and their proposals in resumed studies and with several workers."""

import math
import random
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from mtsearch import StudyDefinition, api
from mtsearch.errors import DefinitionError
from mtsearch.metrics import METRICS
from mtsearch.search.samplers import TPE, InitialTrialsSampler, make_sampler
from mtsearch.search.space import Space, stored_initial_trials
from mtsearch.search.storage import open_writer
from mtsearch.search.storage.owner import OwnerStorage
from mtsearch.search.storage.url import resolve_url
from mtsearch.study_file.sections import SAMPLERS, Sampler
from tests.helpers.trainers import FormulaTrainer, metrics_of, slow_formula
from tests.search.test_run import SPACE, define, go, send_at, trials_of

EACH = [
    {"kind": "tpe", "n_startup_trials": 4},
    {"kind": "tpe", "multivariate": True, "n_startup_trials": 4},
    {"kind": "nsga2", "population_size": 4},
    {"kind": "nsga3", "population_size": 4},
    {"kind": "qmc"},
    {"kind": "qmc", "qmc_type": "halton", "scramble": False},
    {"kind": "random"},
]
if find_spec("torch"):
    EACH.append({"kind": "gp", "n_startup_trials": 4})


def name_of(sampler: dict[str, Any]) -> str:
    return "-".join(map(str, sampler.values()))


each_sampler = pytest.mark.parametrize("sampler", EACH, ids=name_of)
each_sampler_in_time = pytest.mark.parametrize(
    "sampler",
    [each if each in (EACH[0], EACH[2]) else pytest.param(each, marks=pytest.mark.slow) for each in EACH],
    ids=name_of,
)
"""As `each_sampler`; only two of them in the default selection."""


def define_with(data: str, sampler: dict[str, Any], **tables: Any) -> StudyDefinition:
    return define(data, study={"name": "s", "seed": 3, "sampler": sampler}, **tables)


def params_of(path: Path) -> list[dict[str, Any]]:
    return [trial.params for trial in trials_of(path) if trial.state == TrialState.COMPLETE]


def refusal(sampler: object) -> str:
    with pytest.raises(DefinitionError) as caught:
        StudyDefinition.from_mapping({"study": {"name": "s", "sampler": sampler}, "space": SPACE})
    text = str(caught.value).removeprefix("definition: ")
    assert "\n" not in text
    return text


class OptionsTests:
    @pytest.mark.parametrize(
        ("sampler", "said"),
        [
            (
                {"kind": "cmaes"},
                "'cmaes' supports one objective only: use 'gp' or 'nsga2', which support one to",
            ),
            (
                {"kind": "CMA-ES"},
                "'CMA-ES' supports one objective only: use 'gp' or 'nsga2', which support one to",
            ),
            ({"kind": "grid"}, "use 'qmc', which covers [space] evenly"),
            ({"kind": "nsgaii"}, "study.sampler.kind: 'nsgaii' is not a sampler (did you mean 'nsga"),
            ({"kind": 3}, "study.sampler.kind"),
            ("tpe", "study.sampler: 'tpe' is not a table"),
            (
                {"population_size": 8},
                "population_size is not an option of 'tpe' (known: n_startup_trials, multivariate",
            ),
            ({"kind": "gp", "n_ei_candidates": 8}, "n_ei_candidates is not an option of 'gp'"),
            ({"kind": "random", "scramble": True}, "scramble is not an option of 'random', which has no options"),
            (
                {"kind": "nsga2", "populaton_size": 8},
                "populaton_size' (did you mean 'population_size'?)",
            ),
            ({"kind": "nsga2", "population_size": 1}, "study.sampler.population_size: input should be greater than or"),
            ({"kind": "nsga3", "mutation_prob": 1.5}, "study.sampler.mutation_prob: input should be less than or"),
            ({"kind": "tpe", "multivariate": 1}, "study.sampler.multivariate: input should be a valid boolean, not 1"),
            ({"kind": "qmc", "qmc_type": "sobel"}, "study.sampler.qmc_type"),
        ],
    )
    def test_mistakes_are_named(self, sampler: object, said: str) -> None:
        assert said in refusal(sampler)

    def test_every_option_is_one_of_some_kind_and_reaches_optuna(self) -> None:
        assert set(Sampler.model_fields) == {"kind"}.union(*SAMPLERS.values())
        study = optuna.create_study(directions=["minimize", "maximize"])
        study.set_user_attr("mtsearch:population", 8)
        for kind in SAMPLERS:
            raw = {"study": {"name": "s", "sampler": {"kind": kind}}, "space": SPACE}
            study.sampler = make_sampler(StudyDefinition.from_mapping(raw))
            study.ask()

    def test_the_command_lists_the_kinds(self) -> None:
        from mtsearch.cli.run import command

        (option,) = [each for each in command.params if each.name == "sampler"]
        listed = option.to_info_dict()["help"].partition(": ")[2].rstrip(".").replace(" or ", ", ").split(", ")
        assert listed == list(SAMPLERS)

    def test_the_defaults_are_optunas(self) -> None:
        """All defaults are Optuna's, except for two that are documented."""
        import inspect

        classes = {"tpe": "TPESampler", "nsga2": "NSGAIISampler", "nsga3": "NSGAIIISampler", "gp": "GPSampler",
                   "qmc": "QMCSampler"}  # fmt: skip
        for kind, name in classes.items():
            signature = inspect.signature(getattr(optuna.samplers, name))
            for option, default in SAMPLERS[kind].items():
                if option not in ("scramble", "population_size"):
                    assert (signature.parameters[option].default or False) == (default or False), (kind, option)

    def test_a_default_that_is_written_out_is_no_other_definition(self, data: str, tmp_path: Path) -> None:
        go(define_with(data, {"kind": "tpe"}), tmp_path / "a.db", 1)
        go(define_with(data, {"kind": "tpe", "n_startup_trials": 10, "multivariate": False}), tmp_path / "a.db", 1)
        assert len(params_of(tmp_path / "a.db")) == 2

    @pytest.mark.parametrize(("kind", "package"), [("gp", "torch"), ("gp", "scipy"), ("qmc", "scipy")])
    def test_a_missing_package_is_missed_before_data_are_read(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, package: str
    ) -> None:
        for name in ("torch", "scipy"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setitem(sys.modules, package, None)
        definition = define_with(str(tmp_path / "no such data"), {"kind": kind})
        with pytest.raises(DefinitionError, match=rf"'{kind}' needs .*{package}.*; pip install 'mtsearch\[{kind}\]'"):
            go(definition, tmp_path / "a.db", 1)
        assert not (tmp_path / "a.db").exists()

    def test_a_definition_that_samples_nothing_needs_no_package(
        self, monkeypatch: pytest.MonkeyPatch, data: str, tmp_path: Path
    ) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        trials = [{"learning_rate": 0.01 * (1 + number)} for number in range(14)]
        definition = define_with(data, {"kind": "gp"}, space={}, trials=trials)
        assert go(definition, tmp_path / "a.db", None).counting == 14


@each_sampler_in_time
def test_a_study_in_parts_equals_one_in_one_go(data: str, tmp_path: Path, sampler: dict[str, Any]) -> None:
    """Trials are interrupted at the first sampled trial, within a generation and at its end."""
    whole, parts = tmp_path / "a.db", tmp_path / "b.db"
    definition = define_with(data, sampler)
    go(definition, whole, 14)
    for place in (3, 1, 4, 6):
        assert go(definition, parts, None, FormulaTrainer(send_at(place, 2)), until=14).interrupted
    go(definition, parts, None, until=14)
    assert len(trials_of(parts)) == 18
    assert params_of(parts) == params_of(whole)
    assert distinct(params_of(whole)) == 14


@pytest.mark.parametrize(
    "objectives", [["rmse"], ["rmse", "ndcg_10", "mae"], ["rmse", "ndcg_10", "mae", "mrr"]], ids=len
)
@each_sampler
def test_of_any_number_of_objectives_the_study_alone_decides(sampler: dict[str, Any], objectives: list[str]) -> None:
    """Not the process that asks: the same where each trial is proposed by a sampler of its own."""
    raw = {"study": {"name": "s", "sampler": sampler, "objectives": objectives}, "space": SPACE}
    definition = StudyDefinition.from_mapping(raw)

    def ask(anew: bool) -> list[FrozenTrial]:
        study = optuna.create_study(directions=[METRICS[key].direction for key in objectives])
        study.set_user_attr("mtsearch:population", 4)
        study.sampler = make_sampler(definition)
        for _ in range(14):
            trial = study.ask()
            config = Space(definition).sample(trial)
            if trial.number in (2, 7):
                trial.set_user_attr("mtsearch:reason", {"kind": "model", "text": "non-finite"})
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, [metrics_of(config, 3)[key] for key in objectives])
            if anew:
                study.sampler = make_sampler(definition)
        return study.get_trials()

    trials = ask(anew=False)
    assert [trial.params for trial in ask(anew=True)] == [trial.params for trial in trials]
    assert distinct([trial.params for trial in trials]) == len(trials)


def distinct(params: list[dict[str, Any]]) -> int:
    return len({tuple(sorted(each.items())) for each in params})


@each_sampler_in_time
def test_another_seed_proposes_something_else(data: str, tmp_path: Path, sampler: dict[str, Any]) -> None:
    for seed in (3, 4):
        go(define(data, study={"name": "s", "seed": seed, "sampler": sampler}), tmp_path / f"{seed}.db", 6)
    first, second = (params_of(tmp_path / f"{seed}.db")[-1] for seed in (3, 4))
    assert (first != second) is (sampler.get("scramble") is not False)


def turns(path: Path, definition: StudyDefinition, workers: int, rounds: int) -> Iterator[list[optuna.Trial]]:
    """Propose a trial for each worker before one of them ends, and yield these trials."""
    study = optuna.load_study(study_name="s", storage=OwnerStorage(open_writer(resolve_url(str(path)))))
    study.sampler = InitialTrialsSampler(make_sampler(definition), stored_initial_trials(study))
    trainer, space = FormulaTrainer(), Space(definition)
    for _ in range(rounds):
        asked = [study.ask() for _ in range(workers)]
        configs = [space.sample(trial) for trial in asked]
        yield asked
        for trial, config in zip(asked, configs, strict=True):
            if config.learning_rate > 0.9:
                study.tell(trial, state=TrialState.FAIL)
            else:
                metrics = trainer.train(config, lambda _epoch: True).metrics
                study.tell(trial, [metrics["rmse"], metrics["top_100"]])


@pytest.mark.slow
@each_sampler_in_time
def test_trials_for_several_workers_are_never_the_same(data: str, tmp_path: Path, sampler: dict[str, Any]) -> None:
    definition = define_with(data, sampler)
    go(definition, tmp_path / "a.db", 2)
    points = [trial.params for asked in turns(tmp_path / "a.db", definition, 3, 6) for trial in asked]
    assert distinct(points) == 18


@pytest.mark.slow
def test_several_workers_share_out_a_sequence(data: str, tmp_path: Path) -> None:
    definition = define_with(data, {"kind": "qmc"})
    alone, together = tmp_path / "a.db", tmp_path / "b.db"
    go(definition, alone, 12)
    api.run(definition, 12, workers=3, storage=str(together), make_trainer=slow_formula)
    by_number = [[trial.params for trial in trials_of(path)] for path in (alone, together)]
    assert by_number[0] == by_number[1]


def sampled(path: Path) -> list[FrozenTrial]:
    """Return the trials after the initial trials."""
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{path}")
    return study.get_trials()[len(study.user_attrs["mtsearch:listed_trials"]) :]


class QmcTests:
    def test_the_points_are_scipys_from_the_first_one_on(self, data: str, tmp_path: Path) -> None:
        from scipy.stats import qmc

        definition = define_with(data, {"kind": "qmc"}, trials=[{"learning_rate": 0.3}])
        go(definition, tmp_path / "a.db", 12)
        trials = sampled(tmp_path / "a.db")
        assert len(trials) in (9, 10)
        points = qmc.Sobol(4, scramble=True, seed=3).random(16)[: len(trials)]
        for trial, point in zip(trials, points, strict=True):
            coordinate = dict(zip(Space(definition).parameters, point, strict=True))
            for name in ("rating_weight", "retrieval_weight", "learning_rate"):
                low, high = np.log([SPACE[name]["low"], SPACE[name]["high"]])
                assert trial.params[name] == pytest.approx(np.exp(low + coordinate[name] * (high - low)))
            assert trial.params["embedding_size"] == [16, 32][int(coordinate["embedding_size"] * 2)]

    def test_a_single_value_has_no_dimension(self, data: str, tmp_path: Path) -> None:
        space = {"learning_rate": {"low": 0.01, "high": 0.5}, "embedding_size": {"choices": [16]},
                 "rating_weight": {"low": 0.5, "high": 0.5}}  # fmt: skip
        definition = define_with(data, {"kind": "qmc"}, space=space)
        go(definition, tmp_path / "a.db", 10)
        rates = [trial.params["learning_rate"] for trial in sampled(tmp_path / "a.db")[:8]]
        assert {int((rate - 0.01) / 0.49 * 8) for rate in rates} == set(range(8))  # each eighth has its point


class GenerationsTests:
    def population(self, path: Path) -> Any:
        return optuna.load_study(study_name="s", storage=f"sqlite:///{path}").user_attrs.get("mtsearch:population")

    @pytest.mark.parametrize(("trials", "expected"), [(3, 8), (50, 8), (54, 9), (600, 100)])
    def test_a_sixth_of_the_trials(self, trials: int, expected: int) -> None:
        assert Sampler(kind="nsga2").population(trials) == expected
        assert Sampler(kind="nsga3", population_size=5).population(trials) == 5
        assert Sampler().population(trials) is None

    def test_is_that_of_the_first_run(self, data: str, tmp_path: Path) -> None:
        definition = define_with(data, {"kind": "nsga2"})
        go(definition, tmp_path / "a.db", None, until=60, timeout=1e-9)
        go(definition, tmp_path / "a.db", 3)
        assert self.population(tmp_path / "a.db") == 10
        go(define_with(data, {"kind": "random"}), tmp_path / "b.db", 3)
        assert self.population(tmp_path / "b.db") is None

    @pytest.mark.parametrize("kind", ["nsga2", "nsga3"])
    def test_follow_each_other(self, data: str, tmp_path: Path, kind: str) -> None:
        go(define_with(data, {"kind": kind, "population_size": 4}), tmp_path / "a.db", 16)
        attributes = [trial.system_attrs for trial in trials_of(tmp_path / "a.db")]
        found = [value for each in attributes for key, value in each.items() if key.endswith("generation")]
        assert found == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4

    def test_initial_trials_may_fill_more_than_a_generation(self, data: str, tmp_path: Path) -> None:
        listed = [{"learning_rate": 0.1 + number / 100} for number in range(6)]
        definition = define_with(data, {"kind": "nsga2", "population_size": 2}, trials=listed)
        assert go(definition, tmp_path / "a.db", 14).counting == 14

    @pytest.mark.slow
    def test_learn(self) -> None:
        """The lowest learning rate is the best; random proposals would lie at the mean of the logarithms."""
        sampler = {"kind": "nsga2", "population_size": 10}
        definition = StudyDefinition.from_mapping(
            {"study": {"name": "s", "seed": 3, "sampler": sampler}, "space": SPACE}
        )
        study = optuna.create_study(directions=[METRICS[key].direction for key in definition.study.objectives])
        study.set_user_attr("mtsearch:population", 10)
        study.sampler = make_sampler(definition)
        for _ in range(100):
            trial = study.ask()
            metrics = metrics_of(Space(definition).sample(trial), 10)
            study.tell(trial, [metrics[key] for key in definition.study.objectives])
        rates = np.log([trial.params["learning_rate"] for trial in study.get_trials()])
        assert rates[-50:].mean() < np.log([0.01, 0.8]).mean() - 0.5


def ask_with_failures(sampler: dict[str, Any], trials: int) -> list[FrozenTrial]:
    """Run a study whose trials fail in the best region."""
    space = {"learning_rate": {"low": 0.01, "high": 1.0}, "rating_weight": {"low": 0.01, "high": 1.0}}
    raw = {"study": {"name": "s", "sampler": sampler}, "space": space}
    study = optuna.create_study(directions=["minimize", "minimize"])
    study.sampler = make_sampler(StudyDefinition.from_mapping(raw))
    for _ in range(trials):
        trial = study.ask()
        rate, weight = trial.suggest_float("learning_rate", 0.01, 1), trial.suggest_float("rating_weight", 0.01, 1)
        if rate < 0.3:
            trial.set_user_attr("mtsearch:reason", {"kind": "model", "text": "non-finite"})
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [rate, rate + weight])
    return study.get_trials()


if find_spec("torch"):  # no skip: where everything must run, the extra gp need not be there

    def test_gaussian_processes_learn_from_failures_and_keep_to_one_thread() -> None:
        import torch

        trials = ask_with_failures({"kind": "gp"}, 26)
        late = [trial for trial in trials[12:] if trial.state == TrialState.FAIL]
        assert len(late) <= 7
        assert torch.get_num_threads() == 1


def test_a_configuration_that_is_there_is_drawn_again() -> None:
    """NSGA without mutation copies parents, yet none of 4 x 4 points is proposed twice while others are left."""
    space = {name: {"choices": [16, 32, 48, 64]} for name in ("embedding_size", "batch_size")}
    raw = {"study": {"name": "s", "sampler": {"kind": "nsga2", "crossover_prob": 0.0}}, "space": space}
    study = optuna.create_study(directions=["minimize", "minimize"])
    study.set_user_attr("mtsearch:population", 3)
    study.sampler = make_sampler(StudyDefinition.from_mapping(raw))
    copies = 0
    for _ in range(12):
        trial = study.ask()
        for name in space:
            trial.suggest_categorical(name, [16, 32, 48, 64])
        copies += any(trial.params == other.params for other in study.get_trials()[:-1])
        study.tell(trial, [trial.params["embedding_size"], -trial.params["batch_size"]])
    assert copies <= 5


def propose(most: int | None, directions: list[Any]) -> tuple[list[dict[str, Any]], optuna.Study]:
    """Return 60 proposals of a TPE that learns from so many trials at most, or of Optuna's; and their study."""
    study, params = optuna.create_study(directions=directions), list[dict[str, Any]]()
    for number in range(60):
        options: dict[str, Any] = {"seed": number, "constant_liar": True}
        study.sampler = optuna.samplers.TPESampler(**options) if most is None else TPE(most, **options)
        trial = study.ask()
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_categorical("y", [1, 2])
        study.tell(trial, [x + y, y - x, x * y][: len(directions)])
        params.append(trial.params)
    return params, study


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_tpe_is_optunas_up_to_its_most_trials(objectives: int) -> None:
    directions = ["minimize", "maximize", "minimize"][:objectives]
    ours, theirs = propose(40, directions)[0], propose(None, directions)[0]
    assert ours[:41] == theirs[:41]
    assert propose(20, directions)[0][21:] != theirs[21:]


def fill_study(objectives: int, seed: int) -> optuna.Study:
    """Return a study with 80 trials of every kind: with equal values, infinite, infeasible, pruned, failed, running."""
    directions: list[Any] = ["minimize", "maximize", "minimize"][:objectives]
    study, rng = optuna.create_study(directions=directions), random.Random(seed)
    states = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING
    for _ in range(80):
        (state,) = rng.choices(states, [7, 1, 1, 1])
        (last,) = rng.choices([rng.random(), math.inf, -math.inf], [18, 1, 1])
        complete: dict[str, Any] = {
            "values": [*(float(rng.randrange(8)) for _ in range(objectives - 1)), last],
            "constraints": {"c": rng.choice([-1.0, 0.0, 0.5, 2.0])},
        }
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params={"x": rng.random()},
                distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
                **(complete if state == TrialState.COMPLETE else {}),
            )
        )
    return study


def ask(study: optuna.Study) -> FrozenTrial:
    number = study.ask().number
    return study.get_trials()[number]


def numbers_of(trials: list[FrozenTrial]) -> list[int]:
    return [trial.number for trial in trials]


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_tpe_divides_a_small_study_as_optuna_does(objectives: int, seed: int) -> None:
    from optuna.samplers._tpe.sampler import _split_trials, default_gamma

    study = fill_study(objectives, seed)
    trial = ask(study)
    states = TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING
    known = [each for each in study.get_trials(states=states) if each.number != trial.number]
    finished = sum(each.state != TrialState.RUNNING for each in known)
    ours, theirs = TPE(80, seed=0)._divide(study, trial), _split_trials(study, known, default_gamma(finished))
    assert [numbers_of(each) for each in ours] == [numbers_of(each) for each in theirs]


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_tpe_of_a_large_study_takes_those_for_good_that_fewest_dominate(objectives: int) -> None:
    study = fill_study(objectives, 0)
    trial = ask(study)
    good, bad = TPE(20, seed=0)._divide(study, trial)
    assert numbers_of(good) == sorted(numbers_of(good)) and numbers_of(bad) == sorted(numbers_of(bad))

    signs = np.array([1, -1, 1])[:objectives]
    losses = {
        each.number: signs * each.values
        for each in study.get_trials(states=[TrialState.COMPLETE])
        if np.isfinite(each.values).all() and each.constraints["c"] <= 0
    }
    dominators = {
        number: sum((other <= loss).all() and (other < loss).any() for other in losses.values())
        for number, loss in losses.items()
    }
    finished = study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])
    assert len(good) == math.ceil(len(finished) / 10)
    assert sorted(dominators[each.number] for each in good) == sorted(dominators.values())[: len(good)]
    running = {each.number for each in study.get_trials(states=[TrialState.RUNNING])} - {trial.number}
    assert running < set(numbers_of(bad)) <= {*running, *numbers_of(finished)} - set(numbers_of(good))
    assert len(bad) == 20 + len(running)


def test_tpe_of_a_large_study_learns_the_same_in_whatever_order_trials_have_ended() -> None:
    study, rng = optuna.create_study(directions=["minimize", "minimize"]), np.random.default_rng(0)
    sampler, running = TPE(20, seed=0), [study.ask() for _ in range(60)]
    for place in rng.permutation(60):
        sampler._divide(study, study.get_trials()[0])
        x = running[place].suggest_float("x", 0, 1)
        study.tell(running[place], [x, float(rng.integers(0, 3))])
    trial, again = ask(study), optuna.load_study(study_name=study.study_name, storage=study._storage)
    ours, fresh = sampler._divide(study, trial), TPE(20, seed=0)._divide(again, trial)
    assert [numbers_of(each) for each in ours] == [numbers_of(each) for each in fresh]
    assert [numbers_of(each) for each in TPE(20, seed=1)._divide(again, trial)] != [numbers_of(each) for each in fresh]

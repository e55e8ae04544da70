"""The SQL views against `study.best_trials`, on real SQLite files and a real PostgreSQL."""

import itertools
import json
import math
import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from mtsearch.search.pareto import pareto_front
from mtsearch.search.storage import open_reader, open_writer
from mtsearch.search.storage.url import resolve_url, sqlite_path
from mtsearch.search.storage.views import _DEFINITIONS, drop_views, ensure_views
from tests.helpers.fronts import compute_front

DOWN, UP = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
CHOICES = [None, True, "exact", 'qu"ote\\ ü ,', 3, 0.1 + 0.2, 2.0, False, "Infinity"]
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-7, 10.0, log=True),
    "dropout": FloatDistribution(-1.0, 1.0),
    "stepped": FloatDistribution(0.0, 1.0, step=0.1),
    "embedding_size": IntDistribution(1, 4096, log=True),
    "big": IntDistribution(-(2**53), 2**53),
    "kind": CategoricalDistribution(CHOICES),
    "odd name: \"a\"'b' é {0} [1] %": CategoricalDistribution(["a", "b"]),
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "learning_rate": st.floats(1e-7, 10.0) | st.sampled_from([0.1, 1e-5, 0.3, 1.0]),
    "dropout": st.floats(-1.0, 1.0),
    "stepped": st.integers(0, 10).map(lambda i: i * 0.1),
    "embedding_size": st.integers(1, 4096),
    "big": st.integers(-(2**53), 2**53),
    "kind": st.sampled_from(CHOICES),
    "odd name: \"a\"'b' é {0} [1] %": st.sampled_from(["a", "b"]),
}
OBJECTIVE = st.sampled_from([0.0, 1.0, 2.0, -1.0]) | st.floats(-2, 2) | st.sampled_from([math.inf, -math.inf])
BOUND = st.sampled_from([-1.0, 0.0, 1e-300, 2.0, math.inf, -math.inf])
NAME = st.sampled_from(["rmse", "top_100", "view.mrr", "odd: \"a\"'b' é {0} [1] %", "z"])
NUMBERS = itertools.count()


@st.composite
def trials(draw: st.DrawFn, objectives: int) -> FrozenTrial:
    state = draw(st.sampled_from([TrialState.COMPLETE] * 5 + [TrialState.PRUNED, TrialState.FAIL]))
    names = draw(st.sets(st.sampled_from(sorted(DISTRIBUTIONS))))
    old = draw(st.none() | st.none() | st.lists(BOUND | st.just(math.nan), max_size=2))
    new = draw(st.none() | st.dictionaries(st.sampled_from(["memory", "a:b", "Ä"]), BOUND, max_size=2))
    return create_trial(
        state=state,
        values=[draw(OBJECTIVE) for _ in range(objectives)] if state is TrialState.COMPLETE else None,
        params={name: draw(VALUES[name]) for name in names},
        distributions={name: DISTRIBUTIONS[name] for name in names},
        system_attrs={"note": ["NaN", {"constraints": 5}]} | ({} if old is None else {"constraints": old}),
        constraints=new,
    )


def query(storage: RDBStorage, sql: str) -> list[tuple[Any, ...]]:
    with storage.engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def front_rows(storage: RDBStorage, study: optuna.Study) -> list[tuple[Any, ...]]:
    rows = query(storage, f"SELECT * FROM pareto_front WHERE study = '{study.study_name}'")
    return sorted(
        (trial, list(json.loads(objectives).items()), typed(json.loads(params)))
        for _, trial, objectives, params in rows
    )


def best_rows(study: optuna.Study) -> list[tuple[Any, ...]]:
    names = study.metric_names or [f"objective_{place}" for place in range(len(study.directions))]
    return [
        (trial.number, list(zip(names, trial.values, strict=True)), typed(trial.params)) for trial in study.best_trials
    ]


def typed(params: dict[str, Any]) -> str:
    """Return values with their types and all digits, so that 1, 1.0 and True differ."""
    return repr(sorted(params.items()))


def new_study(storage: RDBStorage, directions: Sequence[StudyDirection] = (DOWN, UP)) -> optuna.Study:
    name = f"study {next(NUMBERS)}"
    return optuna.create_study(storage=storage, study_name=name, directions=list(directions))


class Contract:
    """The tests for every SQL database; the subclasses provide the fixture `storage`."""

    EXAMPLES = 4  # of each number of objectives

    @pytest.mark.slow
    @pytest.mark.parametrize("objectives", [1, 2, 3, 4])
    @pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
    def test_rows_are_best_trials(self, storage: RDBStorage, objectives: int) -> None:
        @settings(max_examples=self.EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            drawn=st.lists(trials(objectives), min_size=10, max_size=25),
            directions=st.lists(st.sampled_from([DOWN, UP]), min_size=objectives, max_size=objectives),
            names=st.none() | st.lists(NAME, min_size=objectives, max_size=objectives, unique=True),
        )
        def check(drawn: list[FrozenTrial], directions: list[StudyDirection], names: list[str] | None) -> None:
            study = new_study(storage, directions)
            if names:
                study.set_metric_names(names)
            study.add_trials(drawn)
            assert front_rows(storage, study) == best_rows(study)
            self.check_front_of(study)

        check()

    @staticmethod
    def check_front_of(study: optuna.Study) -> None:
        """Check the front against Optuna's front of the finite trials: an infinite one may dominate a finite one."""
        finite = optuna.create_study(directions=study.directions)
        kept = [t for t in study.trials if t.state is TrialState.COMPLETE and all(map(math.isfinite, t.values))]
        finite.add_trials(kept)
        expected = [(kept[t.number].number, *t.values, typed(t.params)) for t in finite.best_trials]
        found = compute_front(study)
        assert sorted((row.trial, *row.values, typed(dict(row.params))) for row in found) == expected
        signs = tuple(-1.0 if d is UP else 1.0 for d in study.directions)
        assert found == pareto_front(found[::-1], signs)

    def test_an_old_constraint_yields_to_a_new_one_of_its_name(self, storage: RDBStorage) -> None:
        study = new_study(storage)
        for old, new in [([1.0], -1.0), ([-1.0], 1.0), ([-1.0, 1.0], -1.0), ([1.0, -1.0], -1.0)]:
            trial = create_trial(values=[1, 1], system_attrs={"constraints": old, "constraints:0": new})
            study.add_trial(trial)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert [trial.number for trial in study.best_trials] == [0, 3]
            assert front_rows(storage, study) == best_rows(study)

    def test_no_row_of_five_objectives_or_of_no_trial(self, storage: RDBStorage) -> None:
        five, none = new_study(storage, (DOWN,) * 5), new_study(storage)
        five.add_trial(create_trial(values=[1.0] * 5))
        assert front_rows(storage, five) == front_rows(storage, none) == []

    def test_numbers_that_json_does_not_know(self, storage: RDBStorage) -> None:
        study = new_study(storage)
        choices = CategoricalDistribution([math.inf, -math.inf, "Infinity, NaN", math.nan])
        for choice in [math.inf, -math.inf]:
            study.add_trial(create_trial(values=[1, 1], params={"x": choice}, distributions={"x": choices}))
        assert front_rows(storage, study) == best_rows(study)

    def test_keys_are_sorted(self, storage: RDBStorage) -> None:
        study = new_study(storage)
        names = ["b", "a", "C", "é", "_"]
        one: dict[str, BaseDistribution] = dict.fromkeys(names, FloatDistribution(0, 1))
        study.add_trial(create_trial(values=[1, 1], params=dict.fromkeys(names, 1.0), distributions=one))
        ((*_, params),) = query(storage, f"SELECT * FROM pareto_front WHERE study = '{study.study_name}'")
        assert list(json.loads(params)) == sorted(names)

    def test_huge_integers_do_not_break_it(self, storage: RDBStorage) -> None:
        study = new_study(storage)
        huge = IntDistribution(0, 2**70)
        study.add_trial(create_trial(values=[1, 1], params={"x": 2**65}, distributions={"x": huge}))
        ((*_, params),) = query(storage, f"SELECT * FROM pareto_front WHERE study = '{study.study_name}'")
        assert json.loads(params) == {"x": 2**65}

    def test_learning_curves(self, storage: RDBStorage) -> None:
        study = new_study(storage)
        curve = [
            {
                "epoch": epoch,
                "metrics": {"rmse": 1.1 / epoch, "top_100": 0.25},
                "losses": {"rating": bad},
                "seconds": 1.5,
            }
            for epoch, bad in [(1, 0.5), (2, math.inf), (3, math.nan)]
        ]
        for state in [TrialState.PRUNED, TrialState.RUNNING]:
            study.add_trial(create_trial(state=state, user_attrs={"mtsearch:curve": curve, "other": "[}"}))
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"mtsearch:curve": []}))
        rows = query(storage, f"SELECT * FROM learning_curves WHERE study = '{study.study_name}'")
        expected = [(study.study_name, n, point["epoch"], point["metrics"]) for n in (0, 1) for point in curve]
        assert sorted((*row[:3], json.loads(row[3])) for row in rows) == expected

    def test_a_thousand_trials_take_no_time(self, storage: RDBStorage) -> None:
        study = new_study(storage)
        add_thousand(storage, study.study_name)
        begin = time.perf_counter()
        rows = query(storage, "SELECT * FROM pareto_front")
        assert time.perf_counter() - begin < 0.5  # 5 ms on SQLite, 13 ms on PostgreSQL
        assert {row[1] for row in rows if row[0] == study.study_name} == {t.number for t in study.best_trials}

    def test_made_once_and_again_when_changed(self, storage: RDBStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        before = self.identity(storage)
        ensure_views(storage)
        assert self.identity(storage) == before
        changed = "\nSELECT 'changed', 0, '{}', '{}'"
        monkeypatch.setitem(_DEFINITIONS[storage.engine.name], "pareto_front", changed)
        ensure_views(storage)
        assert query(storage, "SELECT study FROM pareto_front") == [("changed",)]
        monkeypatch.undo()
        ensure_views(storage)
        assert query(storage, "SELECT * FROM pareto_front WHERE study = 'changed'") == []

    @staticmethod
    def identity(storage: RDBStorage) -> list[tuple[Any, ...]]:
        if storage.engine.name == "sqlite":
            return query(storage, "PRAGMA schema_version")
        return query(storage, "SELECT oid FROM pg_class WHERE relname IN ('pareto_front', 'learning_curves')")

    def test_optuna_goes_on_beside_them(self, storage: RDBStorage) -> None:
        study = new_study(storage)
        study.add_trial(create_trial(values=[1, 1]))
        with storage.engine.begin() as connection:
            connection.exec_driver_sql(
                f"UPDATE studies SET study_name = 'renamed' WHERE study_name = '{study.study_name}'"
            )
        assert query(storage, "SELECT trial FROM pareto_front WHERE study = 'renamed'") == [(0,)]
        optuna.copy_study(from_study_name="renamed", from_storage=storage, to_storage=storage, to_study_name="copied")
        optuna.delete_study(study_name="renamed", storage=storage)
        assert query(storage, "SELECT study FROM pareto_front WHERE study IN ('renamed', 'copied')") == [("copied",)]
        optuna.delete_study(study_name="copied", storage=storage)

    def test_dropped_they_free_the_tables(self, storage: RDBStorage) -> None:
        drop_views(storage)
        with storage.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE trial_values RENAME TO moved")
            connection.exec_driver_sql("ALTER TABLE moved RENAME TO trial_values")
        drop_views(storage)
        ensure_views(storage)
        assert query(storage, "SELECT count(*) FROM learning_curves")


def add_thousand(storage: RDBStorage, name: str) -> None:
    """Add 1,000 trials in one transaction; Optuna uses one for each, 10 s in all."""
    random = np.random.default_rng(0)
    with storage.engine.begin() as connection:
        study = connection.execute(
            text("SELECT study_id FROM studies WHERE study_name = :name"), {"name": name}
        ).scalar()
        add = text("INSERT INTO trials (number, study_id, state) VALUES (:number, :study, 'COMPLETE')")
        connection.execute(add, [{"number": number, "study": study} for number in range(1000)])
        ids = connection.execute(
            text("SELECT trial_id FROM trials WHERE study_id = :study"), {"study": study}
        ).scalars()
        rows = [{"id": i, "n": n, "v": v} for i in ids for n, v in enumerate(random.random(2).tolist())]
        add = text("INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (:id, :n, :v, 'FINITE')")
        connection.execute(add, rows)
        distribution = distribution_to_json(FloatDistribution(0, 1))
        add = text(
            "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (:id, :n, :v, :d)"
        )
        connection.execute(add, [row | {"n": f"x{row['n']}", "d": distribution} for row in rows])


class SQLiteTests(Contract):
    @pytest.fixture(scope="class")
    def storage(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RDBStorage]:
        storage = open_writer(resolve_url(str(tmp_path_factory.mktemp("views") / "x.db")), create=True)
        ensure_views(storage)
        assert isinstance(storage, RDBStorage)
        yield storage
        storage.engine.dispose()

    def test_in_the_shell(self, storage: RDBStorage) -> None:
        shell = shutil.which("sqlite3")
        if shell is None and not os.environ.get("MTSEARCH_TEST_ALL"):
            pytest.skip("no sqlite3 on PATH")
        assert shell is not None
        study = new_study(storage)
        study.add_trial(
            create_trial(
                values=[1, 0.5],
                params={"kind": 0.1 + 0.2, "dropout": 0.1},
                distributions={k: DISTRIBUTIONS[k] for k in ("kind", "dropout")},
                user_attrs={"mtsearch:curve": [{"epoch": 1, "metrics": {"rmse": 1.0}}]},
            )
        )
        sql = f"SELECT * FROM {{}} WHERE study = '{study.study_name}'"

        def run(view: str) -> str:
            command = [shell, str(sqlite_path(storage.url)), sql.format(view)]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

        params = '{"dropout":0.1,"kind":0.30000000000000004}'
        objectives = '{"objective_0":1.0,"objective_1":0.5}'
        assert run("pareto_front") == f"{study.study_name}|0|{objectives}|{params}"
        assert run("learning_curves") == f'{study.study_name}|0|1|{{"rmse":1.0}}'

    def test_every_float_to_the_last_digit(self, storage: RDBStorage) -> None:
        # SQLite's own quote() gives back another number for these three.
        awkward = [-0.5965480749019481, 0.5631644386615831, -5.9544910989888304, 5e-324, 1.7e308, 1e22, 0.0]
        study = new_study(storage)
        wide = FloatDistribution(-1e308, 1.7e308)
        names = {f"x{i}": value for i, value in enumerate(awkward)}
        for value in awkward:
            study.add_trial(create_trial(values=[value, value], params=names, distributions=dict.fromkeys(names, wide)))
        assert len(front_rows(storage, study)) == len(awkward)
        assert front_rows(storage, study) == best_rows(study)

    def test_in_the_way_of_a_rename(self, storage: RDBStorage) -> None:
        """Some of Optuna's migrations create a table again and rename it, which is why `drop_views` exists."""
        with pytest.raises(OperationalError, match="error in view"), storage.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE anew AS SELECT * FROM trial_values")
            connection.exec_driver_sql("DROP TABLE trial_values")
            connection.exec_driver_sql("ALTER TABLE anew RENAME TO trial_values")


class PostgreSQLTests(Contract):
    EXAMPLES = 2

    @pytest.fixture(scope="class")
    def storage(self, new_postgres: Callable[[], str]) -> Iterator[RDBStorage]:
        storage = open_writer(resolve_url(new_postgres()), create=True)
        ensure_views(storage)
        assert isinstance(storage, RDBStorage)
        yield storage
        storage.engine.dispose()


def test_seen_by_a_reader(tmp_path: Path) -> None:
    url = resolve_url(str(tmp_path / "x.db"))
    writer = open_writer(url, create=True)
    assert isinstance(writer, RDBStorage)
    ensure_views(writer)
    study = new_study(writer)
    study.add_trial(create_trial(values=[1, math.inf]))
    reader = open_reader(url)
    assert isinstance(reader, RDBStorage)
    assert query(reader, "SELECT trial, objectives ->> '$.objective_1' FROM pareto_front") == [(0, math.inf)]
    reader.engine.dispose()
    writer.engine.dispose()

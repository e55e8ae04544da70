"""Each task is judged on its own rows: against the oracle, and labels against scikit-learn."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from mtsearch.data.interactions import Rows, Task
from mtsearch.data.split import Split
from mtsearch.evaluation import Evaluator, evaluate_baselines
from mtsearch.metrics import metrics_of
from tests.helpers import oracle
from tests.helpers.evaluation_cases import Tables, make_rows, make_split

pytestmark = pytest.mark.quick

VIEW, BUY, STARS, HALF, LIKED = 0, 1, 2, 3, 4
TASKS = (
    Task("view", "retrieval", VIEW),
    Task("any", "retrieval", None),
    Task("buy", "retrieval", BUY),
    Task("stars", "rating", -1),
    Task("half", "rating", STARS),
    Task("liked", "label", HALF),
)
KINDS = {task.name: task.kind for task in TASKS}


@dataclass
class Scorers:
    """A scorer with a table of its own for each task."""

    tables: dict[str, Tables]

    def of_task(self, name: str) -> Tables | None:
        return self.tables.get(name)


def draw_rows(rng: np.random.Generator, users: int, items: int, count: int, share: float) -> Rows:
    """Draw rows in which each task has some rows, and the first two serve all."""

    def spoilt(values: np.ndarray, always: int = 2) -> np.ndarray:
        missing = rng.random(count) > share
        missing[:always] = False
        return np.where(missing, np.nan, values).astype(np.float32)

    ones, labels = np.ones(count), rng.integers(2, size=count).astype(float)
    return Rows(
        rng.integers(users, size=count).astype(np.int32),
        rng.integers(items, size=count).astype(np.int32),
        spoilt(rng.integers(1, 6, size=count)),
        np.zeros(count, np.int64),
        (spoilt(ones), spoilt(ones), spoilt(rng.normal(size=count)), spoilt(labels)),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Split, Scorers]:
    """Draw a split with six tasks, and predictions with frequent ties."""
    users, items = draw(st.integers(2, 6)), draw(st.integers(2, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels, share = draw(st.sampled_from([1, 3, 1000])), draw(st.sampled_from([0.3, 0.9]))
    train = draw_rows(rng, users, items, int(rng.integers(3, 3 * items)), share)
    validation = draw_rows(rng, users, items, int(rng.integers(3, 25)), share)
    split = replace(make_split(users, items, range(items), train, validation), test=validation, tasks=TASKS)
    tables = {}
    for task in TASKS:
        chances = rng.integers(levels, size=(users, items)) / levels if task.kind == "label" else None
        ratings = rng.normal(3, 2, (users, items)) if chances is None else chances
        scores = rng.integers(levels, size=(users, items))
        tables[task.name] = Tables(scores.astype(np.float32), ratings.astype(np.float32))
    return split, Scorers(tables)


def own_rows(rows: Rows, task: Task) -> Rows:
    """Return the rows of a task by a loop over the rows, its target as their ratings."""
    targets: dict[int | None, Any] = {None: np.ones(len(rows)), -1: rows.ratings, **dict(enumerate(rows.targets))}
    triples = [
        (user, item, value)
        for user, item, value in zip(
            rows.users.tolist(), rows.items.tolist(), targets[task.column].tolist(), strict=True
        )
        if not math.isnan(value)
    ]
    return make_rows(triples)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_every_metric_of_every_task_equals_the_oracle(case: tuple[Split, Scorers]) -> None:
    split, scorers = case
    measured = Evaluator(split, split.validation).evaluate(scorers)
    assert list(measured) == list(metrics_of(KINDS))
    wanted: dict[str, float] = {}
    for task in TASKS:
        train, rows = own_rows(split.train, task), own_rows(split.validation, task)
        # Unseen is what the user has no training row of this task with, whatever the other tasks have.
        view, tables = replace(split, train=train), scorers.tables[task.name]
        if task.kind == "label":
            wanted |= {f"{task.name}.{key}": value for key, value in label_metrics(rows, tables).items()}
            continue
        found = oracle.metrics(view, rows, tables)
        of_ratings = ("rmse", "rmse_clipped", "mae")
        wanted |= {
            f"{task.name}.{key}": value
            for key, value in found.items()
            if (key in of_ratings) == (task.kind == "rating")
        }
    assert measured == pytest.approx(wanted, abs=1e-9)


def label_metrics(rows: Rows, tables: Tables) -> dict[str, float]:
    truth, chances = rows.ratings > 0.5, tables.rating_table[rows.users, rows.items].astype(np.float64)
    area = roc_auc_score(truth, chances) if len(set(truth.tolist())) == 2 else 0.5
    # NOTE: scikit-learn clips at the resolution of the number's type.
    return {"auc": area, "log_loss": log_loss(truth, chances.clip(1e-7, 1 - 1e-7), labels=[False, True])}


def label_split(truth: list[float], chances: list[float]) -> tuple[Split, Tables]:
    """Return a split of one label task, in which user 0 has each item once."""
    size = len(truth)
    rows = replace(make_rows([(0, n, 1.0) for n in range(size)]), targets=(np.array(truth, np.float32),))
    split = replace(make_split(1, size, range(size), rows, rows), test=rows, tasks=(Task("liked", "label", 0),))
    return split, Tables(np.zeros((1, size), np.float32), np.array([chances], np.float32))


def evaluate_label(truth: list[float], chances: list[float]) -> dict[str, float]:
    split, tables = label_split(truth, chances)
    return Evaluator(split, split.validation).evaluate(tables)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])), min_size=1, max_size=40))
def test_area_and_log_loss_equal_scikit_learn_with_ties(rows: list[tuple[bool, float]]) -> None:
    truth, chances = [float(yes) for yes, _ in rows], [chance for _, chance in rows]
    measured = evaluate_label(truth, chances)
    clipped = np.clip(chances, 1e-7, 1 - 1e-7)
    assert measured["liked.log_loss"] == pytest.approx(log_loss(truth, clipped, labels=[0, 1]), abs=1e-9)
    if len(set(truth)) == 2:
        assert measured["liked.auc"] == pytest.approx(roc_auc_score(truth, chances), abs=1e-12)


def test_labels_by_hand() -> None:
    # yes .9 .4, no .4 .1: of four pairs three are in order, and one is a tie: (3 + 1/2) / 4
    measured = evaluate_label([1, 1, 0, 0], [0.9, 0.4, 0.4, 0.1])
    assert measured["liked.auc"] == 3.5 / 4
    logs = [math.log(chance) for chance in (0.9, 0.4, 0.6, 0.9)]
    assert measured["liked.log_loss"] == pytest.approx(-fmean(logs), abs=1e-6)


@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_labels_of_one_kind_have_no_area(answer: float) -> None:
    measured = evaluate_label([answer] * 3, [0.2, 0.5, 0.8])
    assert measured["liked.auc"] == 0.5
    logs = [math.log(chance if answer else 1 - chance) for chance in (0.2, 0.5, 0.8)]
    assert measured["liked.log_loss"] == pytest.approx(-fmean(logs), abs=1e-6)


def test_a_certain_mistake_has_a_finite_loss() -> None:
    assert evaluate_label([1, 0], [0, 1])["liked.log_loss"] == pytest.approx(-math.log(1e-7))


@settings(max_examples=15, deadline=None)
@given(cases(), st.sampled_from([task.name for task in TASKS]))
def test_a_task_of_which_the_model_says_nothing_has_no_metrics(case: tuple[Split, Scorers], name: str) -> None:
    split, scorers = case
    every = Evaluator(split, split.validation).evaluate(scorers)
    others = {task: tables for task, tables in scorers.tables.items() if task != name}
    fewer = Evaluator(split, split.validation).evaluate(Scorers(others))
    assert fewer == {key: value for key, value in every.items() if not key.startswith(f"{name}.")}


@settings(max_examples=15, deadline=None)
@given(cases())
def test_rows_of_other_tasks_change_nothing(case: tuple[Split, Scorers]) -> None:
    """All but the rows of one task are left out, and that task's metrics are the same."""
    split, scorers = case
    every = Evaluator(split, split.validation).evaluate(scorers)
    task = TASKS[2]
    train, rows = (part.take(np.flatnonzero(~np.isnan(part.targets[BUY]))) for part in (split.train, split.validation))
    alone = replace(split, train=train, validation=rows, tasks=(task,))
    found = Evaluator(alone, rows).evaluate(scorers)
    assert found == {key: value for key, value in every.items() if key.startswith("buy.")}


def test_one_user_of_a_drawn_sample_gives_no_error() -> None:
    """A task may have the rows of one of the drawn users only."""
    rows = replace(make_rows([(0, 0, 1.0), (1, 1, 2.0)]), targets=(np.array([1, np.nan], np.float32),))
    aside = replace(make_rows([(2, 0, 1.0)]), targets=(np.array([1], np.float32),))
    tasks = (Task("buy", "retrieval", 0), Task("stars", "rating", -1))
    split = replace(make_split(3, 2, [0, 1], rows, rows), tasks=tasks, set_aside=aside)
    tables = Tables(np.ones((3, 2), np.float32), np.ones((3, 2), np.float32))
    values, errors = Evaluator(split, split.validation, drawn_from=3).measure(tables)
    assert {"buy.mrr", "stars.rmse"} <= set(values)
    assert set(errors) == {"stars.rmse", "stars.rmse_clipped", "stars.mae"}


@settings(max_examples=40, deadline=None)
@given(cases())
def test_baselines_of_each_task_equal_plain_counts(case: tuple[Split, Scorers]) -> None:
    split, _ = case
    found = evaluate_baselines(split, split.validation)
    assert list(found) == ["chance", "popularity", "popularity_of_all", "biases"]
    items, users = len(split.item_ids), len(split.user_ids)
    everything = Counter(split.train.items.tolist())
    for task in TASKS:
        train, rows = own_rows(split.train, task), own_rows(split.validation, task)
        mean = fmean(train.ratings.tolist())
        constant = np.full((users, items), mean, np.float32)
        if task.kind == "label":
            wanted = label_metrics(rows, Tables(constant, constant))
            for name in ("chance", "popularity"):
                measured = {key: found[name][f"liked.{key}"] for key in wanted}
                assert measured == pytest.approx(wanted, abs=1e-6)
            assert "liked.auc" in found["biases"] and "liked.auc" not in found["popularity_of_all"]
            continue
        own = Counter(train.items.tolist())
        for name, counts in (("chance", Counter()), ("popularity", own), ("popularity_of_all", everything)):
            scores = np.array([[counts[item] for item in range(items)]] * users, np.float32)
            wanted = oracle.metrics(replace(split, train=train), rows, Tables(scores, constant))
            measured = {key: value for key, value in found[name].items() if key.startswith(f"{task.name}.")}
            assert bool(measured) == (task.kind == "retrieval" or name != "popularity_of_all")
            assert measured == pytest.approx(
                {f"{task.name}.{key}": value for key, value in wanted.items() if f"{task.name}.{key}" in measured},
                abs=1e-5,
            )


def test_the_chances_of_biases_are_never_certain() -> None:
    rows = replace(make_rows([(0, 0, 1.0)] * 400), targets=(np.ones(400, np.float32),))
    split = replace(make_split(1, 1, [0], rows, rows), test=rows, tasks=(Task("liked", "label", 0),))
    loss = evaluate_baselines(split, rows)["biases"]["liked.log_loss"]
    assert loss == pytest.approx(-math.log(1 - 1 / 402), rel=1e-4)

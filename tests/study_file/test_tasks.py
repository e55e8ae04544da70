"""The tables [tasks.NAME] of study files: what is allowed, the names of metrics, and the messages about mistakes."""

from typing import Any

import pytest

from mtsearch.data.interactions import RATINGS, Task, make_tasks
from mtsearch.errors import DefinitionError
from mtsearch.study_file.definition import StudyDefinition
from mtsearch.study_file.tasks import TUTORIAL_TASKS, TaskSection, metrics_of_tasks, stored_metrics

pytestmark = pytest.mark.quick

VIEW = {"kind": "retrieval", "where": "event = 'view'"}
BUY = {"kind": "retrieval", "where": "event = 'buy'"}
STARS = {"kind": "rating", "target": "stars"}
RETURNED = {"kind": "label", "target": "returned"}


def make(objectives: list[str], tasks: dict[str, Any], **tables: Any) -> StudyDefinition:
    study = {"name": "s", "objectives": objectives, **tables.pop("study", {})}
    space = tables.pop("space", {"learning_rate": {"low": 0.01, "high": 1.0}})
    return StudyDefinition.from_mapping({"study": study, "space": space, "tasks": tasks, **tables})


def refusal(objectives: list[str], tasks: dict[str, Any], **tables: Any) -> str:
    with pytest.raises(DefinitionError) as caught:
        make(objectives, tasks, **tables)
    told = str(caught.value)
    assert "\n" not in told and len(told) < 500
    return told


def test_objectives_have_the_names_of_their_tasks() -> None:
    tasks = {"view": VIEW, "buy": BUY, "stars": STARS, "returned": RETURNED}
    made = make(["rmse", "buy.top_10", "auc", "view.mrr"], tasks)
    assert list(made.study.objectives) == ["stars.rmse", "buy.top_10", "returned.auc", "view.mrr"]
    assert {metric.kind for metric in made.metrics.values()} == {"rating", "retrieval", "label"}
    assert made.metrics["stars.rmse"].unit == "stars"  # the target's name
    assert list(make(["rating.rmse", "retrieval.mrr"], {}).study.objectives) == ["rmse", "mrr"]


@pytest.mark.parametrize(
    ("objectives", "tasks", "expected"),
    [
        (["top_10"], {"view": VIEW, "buy": BUY}, "several tasks have 'top_10': write 'view.top_10' or 'buy.top_10'"),
        (["rmse"], {"view": VIEW}, "unknown metric 'rmse'"),
        (["veiw.mrr"], {"view": VIEW}, "did you mean 'view.mrr'"),
        (["mrr", "view.mrr"], {"view": VIEW}, "'view.mrr' is named twice"),
        (["mrr"], {"view": {**VIEW, "target": "x"}}, "tasks.view: target: retrieval learns which item a row has"),
        (["auc"], {"bought": {"kind": "label"}}, "tasks.bought: target is missing"),
        (["mrr"], {"view": {"kind": "retreival"}}, "tasks.view.kind"),
        (["mrr"], {"view": {**VIEW, "were": "x"}}, "tasks.view.were"),
        (["mrr"], {"view": {"kind": "retrieval", "where": ""}}, "tasks.view.where"),
        (["mrr"], {"View": VIEW}, "'View' cannot name a task"),
        (["mrr"], {"view.all": VIEW}, "'view.all' cannot name a task"),
        (["mrr"], {"2nd": VIEW}, "'2nd' cannot name a task"),
        (["mrr"], {"v" * 32: VIEW}, "cannot name a task"),
        (["mrr"], {"score": VIEW}, "'score' cannot name a task: recommendations have it"),
        (["mrr"], {"known_user": VIEW}, "'known_user' cannot name a task"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(objectives: list[str], tasks: dict[str, Any], expected: str) -> None:
    assert expected in refusal(objectives, tasks)


def test_weights_are_those_of_the_tasks() -> None:
    tasks = {"view": VIEW, "buy": BUY}
    made = make(["buy.mrr"], tasks, fixed={"weight.view": 0.5})
    assert made.config({"learning_rate": 0.1}).weights == {"view": 0.5}  # 1 for all others
    told = refusal(["buy.mrr"], tasks, fixed={"weight.bye": 0.5})
    assert "weight.bye: there is no task 'bye' (did you mean 'buy'?)" in told
    told = refusal(["buy.mrr"], tasks, fixed={"rating_weight": 0.5})
    assert 'rating_weight belongs to losses = "tutorial": use weight.view and weight.buy in its place' in told
    told = refusal(["buy.mrr"], tasks, study={"losses": "tutorial"})
    assert 'study.losses: "tutorial" weighs the tutorial\'s two tasks: remove losses, or [tasks]' in told


def test_a_task_may_weigh_nothing_but_not_all_of_them() -> None:
    """A weight that is not named is 1."""
    tasks = {"view": VIEW, "stars": STARS}
    made = make(["stars.rmse"], tasks, fixed={"weight.view": 0.0})
    assert [made.config({}).weight_of(name, task.kind) for name, task in made.tasks.items()] == [0, 1]
    nothing = {"weight.view": 0.0, "weight.stars": 0}
    assert "the weights of all tasks are 0: nothing would be learnt" in refusal(["stars.rmse"], tasks, fixed=nothing)


@pytest.mark.parametrize("key", ["fixed.weight.view", 'fixed."weight.view"'])
def test_a_weight_may_be_set_with_quotes_or_without(key: str) -> None:
    made = StudyDefinition.load("shop", [f"{key}=0.5"])
    assert made.fixed["weight.view"] == 0.5
    assert "weight.view" not in made.space


def test_weights_may_be_set_as_a_table() -> None:
    made = StudyDefinition.load("shop", ["fixed.weight={view = 0.5, stars = 2}", "space.weight.purchase.low=0.5"])
    assert {name: value for name, value in made.fixed.items() if "weight" in name} == {
        "weight.view": 0.5, "weight.stars": 2.0
    }  # fmt: skip
    assert {name for name in made.space if "weight" in name} == {"weight.purchase", "weight.returned"}
    assert made.resolved()["space"]["weight.purchase"]["low"] == 0.5


def test_a_listed_trial_for_each_searched_weight() -> None:
    """Of two tasks whose weight is not searched, none would be above the other."""
    tasks, searched = {"view": VIEW, "buy": BUY, "stars": STARS}, {"low": 0.1, "high": 10.0, "log": True}
    made = make(["stars.rmse"], tasks, space={"weight.buy": searched, "weight.view": searched})
    assert made.specialist_weights() == {
        "view": {"weight.buy": 0.1, "weight.view": 10.0},
        "buy": {"weight.buy": 10.0, "weight.view": 0.1},
        "stars": {"weight.buy": 0.1, "weight.view": 0.1},
    }
    assert list(make(["stars.rmse"], tasks, space={"weight.buy": searched}).specialist_weights()) == ["buy"]


def test_patience_watches_a_metric_of_the_study() -> None:
    tasks = {"view": VIEW, "buy": BUY}
    assert 'patience watches the metric "rmse", but unknown metric' in refusal(
        ["buy.mrr"], tasks, fixed={"patience": 2}
    )
    make(["buy.mrr"], tasks, fixed={"patience": 2, "monitor": "buy.mrr"})


def test_no_more_tasks_than_can_be_told_apart() -> None:
    eight = {f"task_{number}": VIEW for number in range(8)}
    make(["task_0.mrr"], eight)
    assert "tasks" in refusal(["task_0.mrr"], {**eight, "task_8": VIEW})


def test_each_task_has_its_column_of_the_rows() -> None:
    sections = {
        "all": TaskSection(kind="retrieval"),
        "view": TaskSection.model_validate(VIEW),
        "rated": TaskSection(kind="rating"),
        "high": TaskSection(kind="rating", where="rating > 3"),
        "returned": TaskSection.model_validate(RETURNED),
    }
    assert make_tasks(sections) == (
        Task("all", "retrieval", None),
        Task("view", "retrieval", 0),
        Task("rated", "rating", RATINGS),
        Task("high", "rating", 1),
        Task("returned", "label", 2),
    )
    assert make_tasks({}) == (Task("rating", "rating", RATINGS), Task("retrieval", "retrieval", None))


def test_a_study_without_tasks_is_stored_as_before() -> None:
    plain = make(["rmse", "top_100"], {})
    assert "tasks" not in plain.resolved()
    assert stored_metrics(plain.resolved()) == metrics_of_tasks(TUTORIAL_TASKS)
    told = make(["view.mrr"], {"view": VIEW})
    assert told.resolved()["tasks"] == {"view": VIEW}
    assert list(stored_metrics(told.resolved())) == list(told.metrics)
    again = StudyDefinition.from_mapping(told.resolved())
    assert again == told


@pytest.mark.parametrize(("feedback", "unit"), [("explicit", "stars"), ("count", "log count"), ("binary", "")])
def test_a_task_of_ratings_has_their_unit(feedback: str, unit: str) -> None:
    sections = {"rated": TaskSection(kind="rating"), "half": TaskSection(kind="rating", target="hours")}
    metrics = metrics_of_tasks(sections, feedback)
    assert [metrics[key].unit for key in ("rated.mae", "half.mae")] == [unit, "hours"]


def test_pairs_are_grouped_by_random_splits_alone() -> None:
    make(["mrr"], {"view": VIEW}, split={"group": "pair"})
    assert 'group belongs to method = "random"' in refusal(
        ["mrr"], {"view": VIEW}, split={"method": "temporal", "group": "pair"}
    )

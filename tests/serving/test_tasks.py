"""Tests that a model of several tasks answers in Python, on files and over HTTP; against NumPy on its weights."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet
import pytest

from mtsearch.errors import ModelError, RequestError
from mtsearch.serving import ServedModel
from mtsearch.serving.bulk import predict_file, recommend_file
from tests.helpers.service import Service, running
from tests.helpers.shops import TASKS, NumpyShop, ServedShop, write_shop

RANKINGS, HEADS = ("view", "purchase"), ("stars", "returned")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> ServedShop:
    return write_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def model(shop: ServedShop) -> ServedModel:
    return ServedModel.load(shop.folder)


@pytest.fixture(scope="module")
def service(shop: ServedShop) -> Iterator[Service]:
    with running(shop.folder) as running_service:
        yield running_service
        assert running_service.log == []


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, trust_env=False, timeout=30) as client:
        yield client


def predicted(answers: NumpyShop, user: int, items: list[str]) -> dict[str, list[float]]:
    """Return what each task predicts for a user and some items."""
    places = [list(answers.split.item_ids).index(item) for item in items]
    return {head: answers.predictions(head)[user, places].tolist() for head in HEADS}


def close(values: Any) -> Any:
    return pytest.approx(values, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("task", RANKINGS)
def test_recommendations_by_each_task(shop: ServedShop, model: ServedModel, task: str, exclude_seen: bool) -> None:
    users = [*shop.split.user_ids[:5], "nobody"]
    found = model.recommend(users, 6, exclude_seen, task)
    for row, user in enumerate([0, 1, 2, 3, 4, len(shop.split.user_ids)]):
        best = found.of(row)
        items = [one.item for one in best]
        assert items == shop.answers.ranking(task, user, exclude_seen)[:6]
        for head, values in predicted(shop.answers, user, items).items():
            assert [one.predictions[head] for one in best] == close(values)


def test_by_default_the_first_task_ranks(shop: ServedShop, model: ServedModel) -> None:
    users = list(shop.split.user_ids)
    default, purchase, view = (model.recommend(users, 5, task=task) for task in (None, "purchase", "view"))
    assert default.items.tolist() == purchase.items.tolist() != view.items.tolist()


def test_items_that_are_left_out_have_no_predictions(shop: ServedShop, model: ServedModel) -> None:
    size = len(shop.split.catalogue)
    found = model.recommend([shop.split.user_ids[0]], size, True, "view")
    left = (~shop.answers.seen("view")[0]).sum()
    for head in HEADS:
        np.testing.assert_array_equal(np.isnan(found.predictions[head][0]), np.arange(size) >= left)


def test_predictions_by_each_task(shop: ServedShop, model: ServedModel) -> None:
    users, items = [*shop.split.user_ids, "nobody"], [*shop.split.item_ids, "nothing"]
    found = model.predict(np.repeat(users, len(items)).tolist(), items * len(users))
    assert list(found.of_tasks) == list(HEADS)
    for head, values in found.of_tasks.items():
        np.testing.assert_allclose(values, shop.answers.predictions(head).ravel(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("purchases", "the model has no task 'purchases'; ask for purchase or view"),
        ("veiw", "the model has no task 'veiw'; ask for view or purchase"),
        ("stars", "task stars is of kind rating and ranks no items; ask for "),
        ("", "the model has no task ''; ask for "),
        ("4" * 100_000, "; ask for "),
    ],
)
def test_tasks_that_rank_nothing(model: ServedModel, task: str, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        model.recommend(["user 0001"], task=task)
    assert said in str(caught.value) and len(str(caught.value)) < 200


def test_a_file_of_users_by_several_tasks(shop: ServedShop, model: ServedModel, tmp_path: Path) -> None:
    split, asked = shop.split, ["user 0002", "nobody", "user 0000"]
    (tmp_path / "users.csv").write_text("user\n" + "\n".join(asked))
    output = tmp_path / "out.parquet"
    done = recommend_file(lambda: model, tmp_path / "users.csv", output, 4, True, ["view", "purchase", "view"])
    rows = pyarrow.parquet.read_table(output).to_pylist()
    assert list(rows[0]) == ["user", "known", "task", "rank", "item", "title", *HEADS, "score"]
    assert (done.read, done.written, done.unknown) == (3, len(rows), 1)
    expected = [
        (user, task, rank, item)
        for user, code in zip(asked, (2, len(split.user_ids), 0), strict=True)
        for task in RANKINGS
        for rank, item in enumerate(shop.answers.ranking(task, code)[:4], 1)
    ]
    assert [(row["user"], row["task"], row["rank"], row["item"]) for row in rows] == expected
    mine = [row for row in rows if (row["user"], row["task"]) == ("user 0000", "view")]
    for head, values in predicted(shop.answers, 0, [row["item"] for row in mine]).items():
        assert [row[head] for row in mine] == close(values)
    recommend_file(lambda: model, tmp_path / "users.csv", output, 4, True)
    rows = pyarrow.parquet.read_table(output).to_pylist()
    assert [row["item"] for row in rows] == [row[3] for row in expected if row[1] == "purchase"]
    assert "task" not in rows[0]


def test_a_file_of_pairs(shop: ServedShop, model: ServedModel, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("user,item\nuser 0003,item 0005\nnobody,item 0001\n")
    predict_file(lambda: model, tmp_path / "pairs.csv", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert list(rows[0]) == ["user", "item", *HEADS, "known_user", "known_item"]
    for head in HEADS:
        expected = shop.answers.predictions(head)
        assert [row[head] for row in rows] == close([expected[3, 5], expected[-1, 1]])


def test_http_lists_by_one_task_and_by_several(shop: ServedShop, http: httpx.Client) -> None:
    one = http.get("/recommend", params={"user": "user 0001", "k": 3, "task": "view"}).json()
    assert [item["item"] for item in one["items"]] == shop.answers.ranking("view", 1)[:3]
    assert list(one["items"][0]) == ["item", "title", "score", *HEADS]
    default = http.get("/recommend", params={"user": "user 0001", "k": 3}).json()
    assert [item["item"] for item in default["items"]] == shop.answers.ranking("purchase", 1)[:3]
    several = http.get("/recommend?user=user%200001&k=3&task=view&task=purchase").json()
    assert several == {
        "user": "user 0001",
        "known": True,
        "tasks": {"view": one["items"], "purchase": default["items"]},
    }
    for task, lists in (("view", {"items": one["items"]}), (["view", "purchase"], {"tasks": several["tasks"]})):
        (result,) = http.post("/recommend", json={"users": ["user 0001"], "k": 3, "task": task}).json()["results"]
        assert result == {"user": "user 0001", "known": True, **lists}


def test_http_predictions(shop: ServedShop, http: httpx.Client) -> None:
    answer = http.get("/predict", params={"user": "user 0004", "item": "item 0007"}).json()
    assert list(answer) == ["user", "item", *HEADS, "known_user", "known_item"]
    assert {head: answer[head] for head in HEADS} == close(
        {head: shop.answers.predictions(head)[4, 7] for head in HEADS}
    )
    assert http.post("/predict", json={"pairs": [{"user": "user 0004", "item": "item 0007"}]}).json() == {
        "results": [answer]
    }


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"task": "purchas"}, "the model has no task 'purchas'; ask for purchase or view"),
        ({"task": ["view", "stars"]}, "task stars is of kind rating"),
        ({"task": 3}, "task: input should be a valid list"),
        ({"task": [None]}, "task[0]: "),
        ({"task": ["view", "purchase"], "users": ["1"] * 1000, "k": 26}, "1000 users times k = 26 times 2 tasks"),
    ],
)
def test_http_tasks_that_cannot_be(http: httpx.Client, body: dict[str, Any], said: str) -> None:
    answer = http.post("/recommend", json={"users": ["1"], "k": 3, **body})
    assert answer.status_code == 422 and said in answer.json()["error"]
    if isinstance(body["task"], str):
        answer = http.get("/recommend", params={"user": "1", "k": 3, **body})
        assert answer.status_code == 422 and said in answer.json()["error"]


def test_openapi_describes_the_answers(http: httpx.Client) -> None:
    """The answers have the keys that the description says, and the description has every key of an answer."""
    described = http.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    user = http.get("/recommend?user=user%200001&k=1").json()
    both = http.get("/recommend?user=user%200001&k=1&task=view&task=purchase").json()
    pair = http.get("/predict?user=1&item=2").json()
    for name, answer in (
        ("UserRecommendations", user), ("RecommendedItem", user["items"][0]), ("UserTaskRecommendations", both),
        ("TaskLists", both["tasks"]), ("PredictedPair", pair),
    ):  # fmt: skip
        assert set(schemas[name]["properties"]) == set(answer), name
    one = described["paths"]["/recommend"]["get"]
    assert "ranked by purchase" in one["description"] and "view, purchase" in one["description"]
    (task,) = (parameter for parameter in one["parameters"] if parameter["name"] == "task")
    assert task["in"] == "query" and task["schema"]["type"] == "array" and not task["required"]


RECOMMEND, PREDICT = "/recommend?user=user%200001", "/predict?user=user%200001&item=item%200001"


@pytest.mark.parametrize(
    ("tasks", "first", "served", "refused", "said"),
    [
        (TASKS[2:], None, PREDICT, RECOMMEND, "cannot recommend: it has tasks of ratings and labels only"),
        (TASKS[:2], "purchase", RECOMMEND, PREDICT, "cannot predict: it has tasks of retrieval only"),
    ],
)
def test_models_that_only_predict_or_only_rank(
    tmp_path: Path, tasks: tuple[Any, ...], first: str | None, served: str, refused: str, said: str
) -> None:
    folder = write_shop(tmp_path, first=first, tasks=tasks).folder
    model = ServedModel.load(folder)
    assert model.knows_user("user 0001") and not model.knows_user("nobody")
    with pytest.raises(RequestError, match=said):
        model.predict(["user 0001"], ["item 0001"]) if first else model.recommend(["user 0001"])
    if first:
        assert model.recommend(["user 0001"], 3).predictions == {}
    with running(folder) as service, httpx.Client(base_url=service.url, trust_env=False, timeout=30) as http:
        answer = http.get(refused)
        assert answer.status_code == 422 and said in answer.json()["error"]
        assert http.get(served).status_code == 200
        paths = http.get("/openapi.json").json()["paths"]
        assert served.partition("?")[0] in paths and refused.partition("?")[0] not in paths


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"first": "stars"}, "first is no task of retrieval"),
        ({"first": None}, "first is no task of retrieval"),
        ({"tasks": {}}, "tasks"),
        ({"tasks": {"view": "ranking"}}, "tasks.view"),
        ({"tasks": {"view": "retrieval", "cart": "retrieval"}, "first": "view"}, "no signature 'recommend_cart'"),
        ({"tasks": {"view": "retrieval", "purchase": "retrieval", "likes": "label"}}, "does not give likes (float32)"),
    ],
)
def test_a_list_of_tasks_that_is_not_the_models(
    shop: ServedShop, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folder = Path(shutil.copytree(shop.folder, tmp_path / "shop"))
    info = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(info | changes))
    with pytest.raises(ModelError) as caught:
        ServedModel.load(folder)
    assert said in str(caught.value) and "mtsearch retrain" in str(caught.value)

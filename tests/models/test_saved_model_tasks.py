"""Tests that a saved model of several tasks answers for each of them as NumPy does from its trained weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from mtsearch.models import Device
from tests.helpers.shops import TASKS, ServedShop, write_shop

CONFIGS: dict[str, dict[str, Any]] = {
    "all": {},
    "projections": {"sharing": "projections", "rating_biases": True, "dot_product": True},
    "experts": {"sharing": "experts", "experts": 3, "retrieval_loss": "full", "item_bias": True, "normalize": True},
}


@pytest.fixture(scope="module", params=list(CONFIGS))
def saved(request: pytest.FixtureRequest, device: Device, tmp_path_factory: pytest.TempPathFactory) -> ServedShop:
    return write_shop(tmp_path_factory.mktemp("shop"), **CONFIGS[request.param])


def ask(shop: ServedShop, signature: str, **inputs: Any) -> dict[str, NDArray[Any]]:
    found = shop.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("task", ["view", "purchase"])
def test_each_task_ranks_by_its_own_scores(saved: ServedShop, task: str, exclude_seen: bool) -> None:
    split, users = saved.split, [*saved.split.user_ids, "nobody"]
    found = ask(saved, f"recommend_{task}", user_id=users, k=60, exclude_seen=exclude_seen)
    scores, seen = saved.answers.scores(task), saved.answers.seen(task)
    codes = {item.encode(): place for place, item in enumerate(split.item_ids[split.catalogue])}
    for row in range(len(users)):
        items = [item for item in found["item_ids"][row] if item]
        places = [codes[item] for item in items]
        left = ~seen[row] if exclude_seen else np.ones_like(seen[row])
        assert len(set(places)) == min(60, left.sum()) and left[places].all()
        np.testing.assert_allclose(found["scores"][row, : len(items)], scores[row, places], rtol=1e-4, atol=1e-5)
        left[places] = False
        assert not left.any() or scores[row, left].max() <= scores[row, places].min() + 1e-5
    assert found["known"].tolist() == [*split.known_users.tolist(), False]


def test_a_view_does_not_hide_an_item_from_the_list_of_purchases(saved: ServedShop) -> None:
    seen = {task: saved.answers.seen(task) for task in ("view", "purchase")}
    only_viewed = seen["view"] & ~seen["purchase"]
    user = int(only_viewed.sum(axis=1).argmax())
    size = len(saved.split.catalogue)
    asked = {"user_id": [saved.split.user_ids[user]], "k": size, "exclude_seen": True}
    found = {task: set(ask(saved, f"recommend_{task}", **asked)["item_ids"][0]) for task in seen}
    viewed = {item.encode() for item in saved.split.item_ids[saved.split.catalogue[only_viewed[user]]]}
    assert viewed and viewed <= found["purchase"] and not viewed & found["view"]


def test_predictions_of_every_task(saved: ServedShop) -> None:
    users, items = [*saved.split.user_ids, "nobody"], [*saved.split.item_ids, "nothing"]
    pairs = [(user, item) for user in users for item in items]
    found = ask(saved, "predict", user_id=[user for user, _ in pairs], item_id=[item for _, item in pairs])
    assert set(found) == {"stars", "returned", "known_users", "known_items"}
    for task in ("stars", "returned"):
        expected = saved.answers.predictions(task)
        np.testing.assert_allclose(found[task].reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
        assert expected.std() > 0.01  # else any constant would do


def test_the_first_task_recommends(device: Device, tmp_path: Path) -> None:
    shop = write_shop(tmp_path, first="purchase")
    users = list(shop.split.user_ids)
    named, plain = (
        ask(shop, name, user_id=users, k=10, exclude_seen=True) for name in ("recommend_purchase", "recommend")
    )
    default = ask(shop, "serving_default", user_id=users)
    for answer in (plain, default):
        np.testing.assert_array_equal(answer["item_ids"], named["item_ids"])
    assert (named["item_ids"] != ask(shop, "recommend_view", user_id=users, k=10, exclude_seen=True)["item_ids"]).any()


@pytest.mark.parametrize(
    ("tasks", "first", "signatures"),
    [
        (TASKS[:2], "view", {"recommend", "recommend_view", "recommend_purchase", "serving_default"}),
        (TASKS[1:3], "purchase", {"recommend", "predict", "serving_default"}),
        (TASKS[2:], None, {"predict", "serving_default"}),
    ],
)
def test_signatures_are_those_of_its_tasks(
    device: Device, tmp_path: Path, tasks: tuple[Any, ...], first: str | None, signatures: set[str]
) -> None:
    shop = write_shop(tmp_path, first=first, tasks=tasks)
    assert set(shop.signatures) == signatures

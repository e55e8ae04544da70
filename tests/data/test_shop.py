"""The made-up shop: a funnel with long tails, whose tasks share a taste, the same on every machine."""

import hashlib
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from mtsearch import StudyDefinition, api
from mtsearch.data import Interactions, Split, load
from mtsearch.data.shop import SHARED_TASTE, SHOPS, form_opinion, make_shop
from mtsearch.data.synthetic import World, stream
from mtsearch.errors import MalformedData
from mtsearch.evaluation import evaluate_baselines
from mtsearch.study_file.sections import DataSection

Row = dict[str, Any]
Pair = tuple[str, str]


@pytest.fixture(scope="module")
def events() -> list[Row]:
    rows: list[Row] = make_shop(*SHOPS["synthetic/shop-100k"]).to_pylist()
    return rows


@pytest.fixture(scope="module")
def of_kind(events: list[Row]) -> dict[str, dict[Pair, Row]]:
    """Return the row of each pair by kind of event."""
    found: dict[str, dict[Pair, Row]] = defaultdict(dict)
    for row in events:
        pair = row["user"], row["item"]
        assert pair not in found[row["event"]]
        found[row["event"]][pair] = row
    return found


@pytest.fixture(scope="module")
def prepared() -> tuple[Interactions, Split]:
    return api.prepare(StudyDefinition.load("shop"))


def digest(seed: int) -> str:
    rows = make_shop(2_000, 60, 80, seed).to_pylist()
    return hashlib.sha256("\n".join(repr([*row.values()]) for row in rows).encode()).hexdigest()


def test_the_same_rows_on_every_machine(prepared: tuple[Interactions, Split]) -> None:
    # Whoever changes it makes every study of the shop a mismatch.
    assert digest(7) == "0f1db6c91f07f2bc27b63c89500e92add7eaed4bbf49afbdb87890be5a421935"
    assert digest(7) != digest(8)
    assert prepared[0].fingerprint == "f0a2837052e25514998144d0fbf6204865ac37ea515e71a8b031b61696aee3a3"


@pytest.mark.parametrize("name", SHOPS)
def test_sizes_are_those_that_are_named(name: str) -> None:
    table = make_shop(*SHOPS[name])
    size = SHOPS[name]
    assert table.num_rows == size.rows == {"100k": 100_000, "1m": 1_000_000}[name.rpartition("-")[2]]
    assert len(table["user"].unique()) == size.users
    assert len(table["item"].unique()) > 0.95 * size.items


def test_it_is_a_funnel(of_kind: dict[str, dict[Pair, Row]]) -> None:
    shares = {kind: len(rows) for kind, rows in of_kind.items()}
    assert shares == {"view": 87_000, "cart": 8_600, "purchase": 4_000, "return": 400}
    for wider, narrower in (("view", "cart"), ("cart", "purchase"), ("purchase", "return")):
        for pair, row in of_kind[narrower].items():
            assert row["timestamp"] > of_kind[wider][pair]["timestamp"]


def test_times_ascend_within_a_year_and_a_quarter(events: list[Row]) -> None:
    times = [row["timestamp"] for row in events]
    assert times == sorted(times)
    assert times[0] >= 1_735_689_600  # 2025-01-01
    assert times[-1] < 1_735_689_600 + 400 * 86_400


def test_purchases_alone_have_stars_and_come_back(events: list[Row], of_kind: dict[str, dict[Pair, Row]]) -> None:
    for row in events:
        assert (row["returned"] in (0, 1)) if row["event"] == "purchase" else row["returned"] is None
        assert row["stars"] in ({None, 1, 2, 3, 4, 5} if row["event"] == "purchase" else {None})
    purchases = of_kind["purchase"]
    assert {pair for pair, row in purchases.items() if row["returned"]} == {*of_kind["return"]}
    stars = [row["stars"] for row in purchases.values() if row["stars"]]
    assert len(stars) == 1_333
    assert 3 < np.mean(stars) < 4.2
    assert 0.7 < np.std(stars) < 1.1
    assert {*stars} == {1, 2, 3, 4, 5}


def test_long_tails(of_kind: dict[str, dict[Pair, Row]]) -> None:
    for place, size in ((0, 2_500), (1, 1_500)):
        names = [pair[place] for pair in of_kind["view"]]
        count = np.sort(np.unique(names, return_counts=True)[1])[::-1]
        assert count[: size // 10].sum() > 0.35 * count.sum()  # 0.1 without a tail
        assert np.median(count) < 0.6 * count.mean()


def nearer(shared_taste: float) -> float:
    """Return by how much purchases are nearer to their users' other views than these views are to each other.

    Nearness is that of items which the same users view, beyond what their numbers of views explain: it knows nothing
    of how the shop was made. A purchase is compared with the mean of the same user's views, in standard deviations.
    """
    table = make_shop(*SHOPS["synthetic/shop-100k"], shared_taste=shared_taste)
    users, items = (table[name].to_numpy() for name in ("user", "item"))
    user, item = (np.unique(names, return_inverse=True)[1] for names in (users, items))
    event = table["event"].to_numpy()
    is_view, is_purchase = event == "view", event == "purchase"
    viewed = np.zeros((user.max() + 1, item.max() + 1))
    viewed[user[is_view], item[is_view]] = 1
    expected = viewed.sum(1, keepdims=True) * viewed.sum(0) / viewed.sum()
    residual = (viewed - expected) / np.sqrt(expected)
    alike = residual.T @ residual / len(viewed)
    np.fill_diagonal(alike, 0)
    liking = viewed @ alike / viewed.sum(1, keepdims=True)
    mean = (liking * viewed).sum(1) / viewed.sum(1)
    return float(np.mean(liking[user, item][is_purchase] - mean[user[is_purchase]]) / liking[viewed > 0].std())


def test_purchases_are_nearer_to_their_users_taste_than_views() -> None:
    known, unknown = nearer(SHARED_TASTE), nearer(0.0)
    assert known > 4 * abs(unknown)
    assert abs(unknown) < 0.06


def test_both_tastes_correlate_in_the_known_degree() -> None:
    at_sight = World.draw(2_000, 1_000, 3)
    opinion = form_opinion(at_sight, SHARED_TASTE, stream(3, 6))
    pairs = np.random.default_rng(0).integers(0, (2_000, 1_000), (200_000, 2))
    likings = [world.liking(pairs[:, 0], pairs[:, 1]) for world in (at_sight, opinion)]
    assert np.corrcoef(likings[0], likings[1])[0, 1] == pytest.approx(SHARED_TASTE, abs=0.02)
    assert np.std(likings[1]) == pytest.approx(1, abs=0.05)


def test_the_shipped_study_has_rows_of_every_task_in_every_part(prepared: tuple[Interactions, Split]) -> None:
    interactions, split = prepared
    assert [task.name for task in split.tasks] == ["view", "purchase", "stars", "returned"]
    assert len(split.item_ids) == len(split.catalogue) == 1_500
    expected = {"view": 87_000, "purchase": 4_000, "stars": 1_333, "returned": 4_000}
    for task in split.tasks:
        part = split.of_task(task)
        sizes = [len(part.train), len(part.validation), len(part.test)]
        assert sum(sizes) == expected[task.name]
        assert min(sizes) > 50
    returned = split.of_task(split.task("returned"))
    assert {*returned.validation.ratings.tolist()} == {0.0, 1.0}
    assert len(interactions.rows) == 91_000


def test_a_pair_stays_in_one_part(prepared: tuple[Interactions, Split]) -> None:
    _, split = prepared
    parts = [{*zip(rows.users.tolist(), rows.items.tolist(), strict=True)} for rows in (split.train, split.validation)]
    assert not parts[0] & parts[1]


def test_baselines_of_every_task_tell_something(prepared: tuple[Interactions, Split]) -> None:
    _, split = prepared
    reached = evaluate_baselines(split, split.validation)
    for task in ("view", "purchase"):
        assert reached["popularity"][f"{task}.top_100"] > 4 * reached["chance"][f"{task}.top_100"]
    assert reached["biases"]["stars.rmse"] < reached["chance"]["stars.rmse"]
    assert reached["biases"]["returned.auc"] > 0.6


def test_without_tasks_its_stars_are_the_ratings(messages: pytest.LogCaptureFixture) -> None:
    read = load(DataSection(source="synthetic/shop-100k"))
    assert len(read.rows) == 100_000
    assert np.count_nonzero(~np.isnan(read.rows.ratings)) == 1_333
    assert "98,667 rows without a rating" in messages.text


def test_its_rows_can_be_chosen_as_those_of_a_users_table() -> None:
    section = {"source": "synthetic/shop-100k", "where": "event = 'purchase'", "columns": {"rating": False}}
    assert len(load(DataSection.model_validate(section)).rows) == 4_000


def test_what_belongs_to_files_is_refused() -> None:
    section = {"source": "synthetic/shop-100k", "reader": {"header": False}}
    with pytest.raises(MalformedData, match="synthetic/shop-100k is no file; remove reader"):
        load(DataSection.model_validate(section))


@pytest.mark.parametrize(
    ("rows", "users", "items"), [(100, 90, 10), (1_000, 10, 100), (100, 0, 10), (100, 1, 2**21 + 2)]
)
def test_what_cannot_be_made_is_refused(rows: int, users: int, items: int) -> None:
    with pytest.raises(ValueError, match="out of its range"):
        make_shop(rows, users, items)

"""Tests of `mtsearch recommend` and `predict` with a model of several tasks."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.test_bad_input import one_line
from tests.helpers.shops import ServedShop, write_shop

USER = "user 0001"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> ServedShop:
    return write_shop(tmp_path_factory.mktemp("shop"))


def test_one_task_has_a_list_without_a_column_task(mtsearch: Command, shop: ServedShop) -> None:
    asked = ("recommend", str(shop.folder), "--user", USER, "-k", "3", "--format", "json")
    default, purchase, view = (
        mtsearch(*asked),
        mtsearch(*asked, "--task", "purchase"),
        mtsearch(*asked, "--task", "view"),
    )
    assert default.out == purchase.out
    for result, task in ((purchase, "purchase"), (view, "view")):
        rows = json.loads(result.out)
        assert [row["item"] for row in rows] == shop.answers.ranking(task, 1)[:3]
        assert list(rows[0]) == ["rank", "item", "title", "stars", "returned", "score"]
        assert result.err == ""


def test_several_tasks_have_a_list_each(mtsearch: Command, shop: ServedShop) -> None:
    asked = ("recommend", str(shop.folder), "--user", USER, "-k", "2", "--task", "purchase", "--task", "view")
    rows = json.loads(mtsearch(*asked, "--format", "json").out)
    expected = [(task, item) for task in ("purchase", "view") for item in shop.answers.ranking(task, 1)[:2]]
    assert [(row["task"], row["item"]) for row in rows] == expected
    assert [row["rank"] for row in rows] == [1, 2, 1, 2]
    lines = list(csv.DictReader(io.StringIO(mtsearch(*asked, "--format", "csv").out)))
    assert [(line["task"], line["item"]) for line in lines] == expected
    table = mtsearch(*asked).out
    heading = next(line for line in table.splitlines() if "task" in line)
    assert heading.split() == ["#", "task", "title", "stars", "returned", "score"]
    assert f"{rows[0]['stars']:.2f}" in table and f"{rows[0]['returned']:.3f}" in table


def test_a_list_that_is_too_short_names_its_task(mtsearch: Command, shop: ServedShop) -> None:
    left = len(shop.answers.ranking("view", 1))
    asked = ("recommend", str(shop.folder), "--user", USER, "-k", "80", "--task", "view", "--task", "purchase")
    assert f"view: only {left} items are left that the user has not seen" in mtsearch(*asked).err


def test_a_task_that_the_model_does_not_have(mtsearch: Command, shop: ServedShop, tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("user\n1\n")
    for asked in (("--user", USER), ("--users", "users.csv", "-o", "out.csv")):
        result = mtsearch("recommend", str(shop.folder), *asked, "--task", "purchse")
        assert (result.status, result.out) == (1, "")
        assert one_line(result.err) == "error: the model has no task 'purchse'; ask for purchase or view"


def test_each_prediction_has_a_line_with_its_task(mtsearch: Command, shop: ServedShop) -> None:
    result = mtsearch("predict", str(shop.folder), "--user", USER, "--item", "item 0003")
    stars, returned = (shop.answers.predictions(task)[1, 3] for task in ("stars", "returned"))
    assert [line.split() for line in result.out.splitlines()] == [
        ["stars", f"{stars:.3f}"],
        ["returned", f"{returned:.3f}"],
    ]

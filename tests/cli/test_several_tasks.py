"""A study of several tasks on an events file, with the real model: from the file to the retrained model."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from mtsearch import Export, api
from mtsearch.search.results import StudyResults
from mtsearch.serving.model import read_info
from mtsearch.study_file.definition import StudyDefinition
from tests.cli.conftest import Command

STUDY = """
[study]
name = "shop"
objectives = {objectives}
[data]
source = "{source}"
columns = {{ user = "visitorid", item = "itemid", timestamp = "timestamp", rating = false }}
duplicates = "keep"
[tasks.view]
kind = "retrieval"
where = "event = 'view'"
[tasks.purchase]
kind = "retrieval"
where = "event = 'purchase'"
[tasks.stars]
kind = "rating"
target = "stars"
[tasks.returned]
kind = "label"
target = "returned"
[space]
weight.view = {{ low = 0.1, high = 1.0, log = true }}
weight.stars = {{ low = 0.1, high = 1.0, log = true }}
[fixed]
retrieval_loss = "full"
embedding_size = 8
learning_rate = 0.3
epochs = 4
patience = 2
monitor = "mae"
batch_size = 512
"""
OBJECTIVES = {
    3: ("stars.rmse", "purchase.top_100", "view.mrr"),
    4: ("purchase.top_100_unseen", "returned.auc", "stars.mae", "view.coverage"),
}


def write_events(folder: Path) -> Path:
    """Write an events file of 60 users and 150 items: views, and purchases of which most have stars."""
    random = np.random.default_rng(7)
    lines = ["timestamp,visitorid,event,itemid,stars,returned"]
    for number in range(4000):
        user, item = random.integers(60), min(int(random.exponential(30)), 149)
        purchase = random.random() < 0.3
        stars = (
            str(int(np.clip(random.normal(3 + user % 3 - item % 3 / 2, 0.5), 1, 5))) if random.random() < 0.7 else ""
        )
        returned = str(int(random.random() < (0.1 + 0.5 * (item % 3 == 2))))
        event = f"purchase,{item},{stars},{returned}" if purchase else f"view,{item},,"
        lines.append(f"{1_700_000_000 + 60 * number},{user},{event}")
    file = folder / "events.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def stored_study(folder: Path, objectives: tuple[str, ...]) -> tuple[Path, StudyResults]:
    file = folder / "shop.toml"
    file.write_text(STUDY.format(objectives=json.dumps(objectives), source=write_events(folder)), encoding="utf-8")
    return file, api.run(StudyDefinition.load(str(file)), 7, storage=str(folder / "a.db"))


@pytest.mark.slow
@pytest.mark.parametrize("number", OBJECTIVES)
def test_from_an_events_file_to_a_retrained_model(mtsearch: Command, tmp_path: Path, number: int) -> None:
    keys = OBJECTIVES[number]
    file, results = stored_study(tmp_path, keys)
    assert results.counting == 7 and not results.failures
    # The weights of purchase and returned are not searched: neither can be above all.
    assert list(results.initial.values()) == ["starting point", "view above all", "stars above all"]
    assert {config["monitor"] for config in results.configs.values()} == {"stars.mae"}
    for number_of, epoch in results.best_epochs.items():  # patience took the best epoch in the monitored metric
        watched = [each["metrics"]["stars.mae"] for each in results.curves[number_of]]
        assert watched[epoch - 1] == min(watched)

    of_it = ("--storage", str(tmp_path / "a.db"))
    front = json.loads(mtsearch("front", *of_it, "--format", "json").out)
    assert [tuple(each[key] for key in keys) for each in front] == [each.values for each in results.front]
    with sqlite3.connect(tmp_path / "a.db") as connection:
        viewed = dict(connection.execute("SELECT trial, objectives FROM pareto_front WHERE study = 'shop'"))
    assert {trial: json.loads(text) for trial, text in viewed.items()} == {
        row.trial: dict(zip(keys, row.values, strict=True)) for row in results.front
    }
    assert mtsearch("plot", *of_it, "-o", "page.html").status == 0
    assert mtsearch("check", str(file)).status == 0
    baselines = json.loads(mtsearch("baselines", str(file), "--format", "json").out)
    assert {key: baselines[0][key] for key in keys} == {key: results.baselines["chance"][key] for key in keys}

    best = min(results.front, key=lambda row: results.signs[0] * row.values[0])
    assert mtsearch("export", *of_it, "--pick", keys[0], "-o", "best.toml").status == 0
    export = Export.load(Path("best.toml"))
    assert export.provenance.trial == best.trial
    assert list(export.tasks) == ["view", "purchase", "stars", "returned"]
    again = mtsearch("retrain", "best.toml", "-o", "model", "--on", "train")
    assert "validation metrics: equal to those of the trial, to the last bit" in again.err
    metrics = json.loads(Path("model/metrics.json").read_text(encoding="utf-8"))
    assert set(metrics["test"]) == set(results.metrics)
    card = Path("model/model_card.md").read_text(encoding="utf-8")
    assert "4 tasks, view, purchase, stars and returned" in card
    assert f"| {results.objectives[0].axis}, " in card
    first = next((key.split(".")[0] for key in keys if key.split(".")[0] in ("view", "purchase")), "view")
    info = read_info(Path("model"))
    assert (list(info.tasks), info.first, info.rating_range) == (["view", "purchase", "stars", "returned"], first, None)
    asked = ("recommend", "model", "--user", "nobody", "-k", "3", "--format", "json")
    lists = [json.loads(mtsearch(*asked, *task).out) for task in ((), ("--task", first))]
    assert lists[0] == lists[1] and len(lists[0]) == 3


@pytest.mark.slow
def test_the_front_on_test_and_a_comparison(mtsearch: Command, tmp_path: Path) -> None:
    file, _ = stored_study(tmp_path, OBJECTIVES[3])
    of_it = ("--storage", str(tmp_path / "a.db"))
    reported = json.loads(mtsearch("report", *of_it, "--seeds", "1", "--format", "json").out)
    assert reported["objectives"] == list(OBJECTIVES[3])
    assert set(reported["baselines"]["popularity_of_all"]).isdisjoint({"stars.rmse", "returned.auc"})
    assert mtsearch("report", *of_it, "--seeds", "1").status == 0
    other = StudyDefinition.load(str(file), ["study.name=other", "study.seed=2"])
    api.run(other, 5, storage=str(tmp_path / "a.db"))
    compared = json.loads(mtsearch("compare", "shop", "other", *of_it, "--format", "json").out)
    assert [list(study["best"]) for study in compared["studies"]] == [list(OBJECTIVES[3])] * 2
    assert mtsearch("compare", "shop", "other", *of_it).status == 0
    listed = json.loads(mtsearch("studies", *of_it, "--format", "json").out)
    assert listed[0]["objectives"] == " ".join(OBJECTIVES[3])

"""Tests of clicks from the file to the recommendation: text ids, no ratings, titles in a separate file."""

import json
import random
from pathlib import Path

import pytest

from tests.cli.conftest import Command

STUDY = """
[study]
name = "clicks"
objectives = ["{first}", "top_10"]
[data]
source = "clicks.csv"
items = "items.csv"
{more}
[split]
method = "leave_last"
[space]
learning_rate = {{ low = 0.05, high = 0.5, log = true }}
retrieval_weight = {{ low = 1e-3, high = 1.0, log = true }}
[fixed]
epochs = 2
batch_size = 128
embedding_size = 8
"""


def write(folder: Path, first: str = "rmse", more: str = "") -> None:
    """Write the clicks of 60 users with two tastes, 12 of 40 items each, and titles of five more items."""
    draw = random.Random(1)
    lines = ["userId,productId,plays,time"]
    for user in range(60):
        for item in draw.sample(range(20), 10) + draw.sample(range(20, 40), 2):
            shifted = (item + 20 * (user % 2)) % 40
            lines.append(f"u{user},sku-{shifted},{draw.randint(1, 9)},{1_600_000_000 + draw.randrange(10**7)}")
    (folder / "clicks.csv").write_text("\n".join(lines) + "\n")
    (folder / "items.csv").write_text("productId,name\n" + "".join(f'sku-{n},"Thing, no. {n}"\n' for n in range(45)))
    (folder / "s.toml").write_text(STUDY.format(first=first, more=more))


def finite(text: str) -> bool:
    return "NaN" not in text and "Infinity" not in text and "nan" not in text


@pytest.mark.slow
@pytest.mark.parametrize(("first", "more"), [("rmse", ""), ("coverage", ""), ("rmse", 'feedback = "count"')])
def test_run_front_plot(mtsearch: Command, tmp_path: Path, first: str, more: str) -> None:
    write(tmp_path, first, more)
    ran = mtsearch("run", "s.toml", "--trials", "3")
    assert ran.status == 0, ran.err
    assert ran.err.count("data: 720 rows from") == 1
    assert ("every rating is 1" in ran.err) == (not more)
    front = mtsearch("front", "--format", "json")
    baselines = mtsearch("baselines", "s.toml", "--format", "json")
    assert front.status == 0 and json.loads(front.out) and finite(front.out)
    rows = {row["baseline"]: row for row in json.loads(baselines.out)}
    assert finite(baselines.out) and (rows["biases"]["rmse"] == 0) == (not more)
    plotted = mtsearch("plot")
    assert plotted.status == 0, plotted.err
    assert mtsearch("front").status == 0 and mtsearch("studies").status == 0


@pytest.mark.slow
@pytest.mark.parametrize(("more", "unit"), [("", ""), ('feedback = "count"', " (log count)")])
def test_nothing_is_counted_in_stars(mtsearch: Command, tmp_path: Path, more: str, unit: str) -> None:
    write(tmp_path, "rmse", more)
    ran = mtsearch("run", "s.toml", "--trials", "2")
    shown = {
        "front": mtsearch("front").out,
        "baselines": mtsearch("baselines", "s.toml").out,
        "export": mtsearch("export", "-o", "best.toml").err,
        "unmet": mtsearch("export", "--pick", "rmse<=-1").err,
        "retrain": mtsearch("retrain", "best.toml", "-o", "model").out,
        "report": mtsearch("report", "--seeds", "1").out,
    }
    assert mtsearch("plot", "-o", "page.html").status == 0
    page = Path("page.html").read_text(encoding="utf-8")
    texts = {
        **shown,
        "run": ran.out + ran.err,
        "card": (tmp_path / "model" / "model_card.md").read_text(encoding="utf-8"),
    }
    assert not [name for name, text in texts.items() if "stars" in text.casefold() or not text]
    assert f"RMSE{unit}, lower is better" in texts["card"] and "RMSE (stars)" not in page
    assert f"RMSE{unit}, lower is better" in page
    assert all(f"RMSE{unit} ↓" in " ".join(shown[name].split()) for name in ("front", "baselines", "retrain"))


@pytest.mark.slow
def test_export_retrain_recommend(mtsearch: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "top_100")
    away = tmp_path / "away"
    away.mkdir()
    assert mtsearch("run", "s.toml", "--trials", "2").status == 0
    assert mtsearch("export", "-o", "best.toml").status == 0
    monkeypatch.chdir(away)
    trained = mtsearch("retrain", str(tmp_path / "best.toml"), "-o", "model")
    assert trained.status == 0, trained.err
    best = mtsearch("recommend", "model", "--user", "u1", "-k", "3", "--format", "json")
    items = json.loads(best.out)
    items = items if isinstance(items, list) else items["items"]
    assert [row["title"] for row in items] == [f"Thing, no. {row['item'].removeprefix('sku-')}" for row in items]
    assert mtsearch("predict", "model", "--user", "u1", "--item", "sku-3").out.strip() == "1.000"


def test_other_clicks_are_another_study(mtsearch: Command, tmp_path: Path) -> None:
    write(tmp_path)
    assert mtsearch("run", "s.toml", "--trials", "1").status == 0
    with (tmp_path / "clicks.csv").open("a") as file:
        file.write("u1,sku-1,1,1700000000\n")
    again = mtsearch("run", "s.toml", "--trials", "1")
    assert again.status == 1 and "data fingerprint" in again.err


def test_one_user_one_item(mtsearch: Command, tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_text("user,item\n" + "a,x\n" * 30)
    study = STUDY.format(first="rmse", more="").replace('items = "items.csv"', "")
    (tmp_path / "s.toml").write_text(study.replace('method = "leave_last"', ""))
    ran = mtsearch("run", "s.toml", "--trials", "1")
    assert ran.status == 0, ran.err
    assert finite(mtsearch("front", "--format", "json").out)
    assert mtsearch("plot").status == 0

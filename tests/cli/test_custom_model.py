"""Tests of a custom model in code, from the command to the recommendation, on small data."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from mtsearch.study_file.load import shipped_folder
from tests.cli.conftest import Command
from tests.helpers.fixtures import small_data


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Copy the example of a custom model to a folder of the user, with a definition on small data."""
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(shipped_folder() / "own_model.py", folder / "my_model.py")
    text = (shipped_folder() / "own-model.toml").read_text(encoding="utf-8")
    text = text.replace("own_model:make", "my_model:make").replace("movielens/100k", small_data(tmp_path))
    (folder / "mine.toml").write_text(text.replace("epochs = 8", "epochs = 1"))
    return folder / "mine.toml"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_from_run_to_recommend(mtsearch: Command, shell: Command, mine: Path, tmp_path: Path, workers: str) -> None:
    ran = shell("run", str(mine), "--trials", "3", "--workers", workers, "--set", "fixed.batch_size=256")
    assert ran.status == 0, ran.err
    front = json.loads(mtsearch("front", "--format", "json").out)
    assert front
    (study,) = json.loads(mtsearch("studies", "--format", "json").out)
    assert study["states"] == {"complete": 3}
    train = mtsearch if workers == "1" else shell  # with the threads of the study's workers
    reports = [("report", "--seeds", "1")] * (workers == "1")
    for args in (("plot",), *reports, ("export", "-o", "best.toml")):
        done = mtsearch(*args)
        assert done.status == 0, done.err
    exported = tomllib.loads((tmp_path / "best.toml").read_text(encoding="utf-8"))
    assert exported["model"]["factory"] == "my_model:make"
    assert exported["provenance"]["source_fingerprint"] == study["passport"]["trainer"]["model_source"]
    trained = train("retrain", "best.toml", "-o", "best", "--on", "train")
    assert trained.status == 0, trained.err
    metrics = json.loads((tmp_path / "best" / "metrics.json").read_text(encoding="utf-8"))
    again = {key: interval["mean"] for key, interval in metrics["validation"].items()}
    assert again == metrics["trial"]  # the same bits, in another process
    assert "my_model:make" in (tmp_path / "best" / "model_card.md").read_text(encoding="utf-8")
    recommended = json.loads(mtsearch("recommend", "best", "--user", "5", "-k", "5", "--format", "json").out)
    assert len(json.dumps(recommended)) > 100
    assert 1 <= float(mtsearch("predict", "best", "--user", "5", "--item", "Film 3 (1990)").out) <= 5


@pytest.mark.slow
def test_goes_on_elsewhere_and_not_with_another_model(
    shell: Command, mtsearch: Command, mine: Path, tmp_path: Path
) -> None:
    begun = shell("run", str(mine), "--trials", "1")
    assert begun.status == 0, begun.err
    moved = mine.parent.rename(tmp_path / "moved")
    # In this process, the model that another test imported would be found.
    lost = shell("run", "--study", "own-model", "--trials", "1")
    assert (lost.status, len(lost.err.strip().splitlines())) == (1, 2), lost.err
    assert "error: model.factory: no module 'my_model' in" in lost.err

    storage = ("--storage", str(tmp_path / "studies" / "mtsearch.db"))
    found = shell("run", "--study", "own-model", "--trials", "1", *storage, cwd=moved)  # a second machine
    assert found.status == 0, found.err
    assert mtsearch("export", "-o", "moved/best.toml").status == 0

    with (moved / "my_model.py").open("a", encoding="utf-8") as text:
        text.write("\n# changed\n")
    changed = shell("run", "moved/mine.toml", "--trials", "1")
    assert changed.status == 1
    assert "another definition or other data (model: " in changed.err.splitlines()[-1]
    refused = shell("retrain", "best.toml", "-o", "best", cwd=moved)
    assert refused.status == 1
    assert "my_model.py is not the model of study own-model: the fingerprint is" in refused.err.splitlines()[-1]


def test_check_names_it_and_guesses_no_time(mtsearch: Command, mine: Path) -> None:
    facts = json.loads(mtsearch("check", str(mine), "--format", "json").out)
    assert facts["model"] == {"factory": "my_model:make", "file": str(mine.parent / "my_model.py")}
    assert "rough_seconds_of_a_trial" not in facts
    assert "not known for a custom model" in mtsearch("check", str(mine)).out


def test_mistakes(mtsearch: Command, mine: Path) -> None:
    misspelt = mtsearch("check", str(mine), "--set", "model.factroy=a:b")
    assert "unknown key 'model.factroy' (did you mean 'factory'?)" in misspelt.err
    shapeless = mtsearch("check", str(mine), "--set", "model.factory=my_model.make")
    assert shapeless.err.count("\n") == 1
    assert "model.factory" in shapeless.err
    assert "package.module:function" in shapeless.err
    missing = mtsearch("check", str(mine), "--set", "model.factory=no_model:make")
    assert missing.status == 1
    assert f"no module 'no_model' in {mine.parent}" in missing.err

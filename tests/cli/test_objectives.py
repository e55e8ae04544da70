"""Every command that shows a study, with one to four objectives: from the database to what is printed."""

import csv
import io
import json
from pathlib import Path

import pytest

from mtsearch import Export, Study, api
from mtsearch.cli.console import TrialProgress
from mtsearch.metrics import METRICS
from mtsearch.search.trial import TrialEnd
from tests.cli.conftest import Command
from tests.helpers.fixtures import small_data
from tests.helpers.trainers import FormulaTrainer, make_factory
from tests.search.test_run import define

STORAGE = "a.db"
OBJECTIVES = [("mrr",), ("rmse", "top_100"), ("rmse", "top_100", "mae"), ("mae", "mrr", "rmse", "top_100")]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Study]]:
    """A database with a study of so many objectives each, and a second one of each number."""
    folder = tmp_path_factory.mktemp("studies")
    path, data = folder / STORAGE, small_data(folder)
    records: dict[int, Study] = {}
    for keys in OBJECTIVES:
        for name, seed in ((f"other-{len(keys)}", 2), (f"of-{len(keys)}", 1)):
            definition = define(data, study={"name": name, "seed": seed, "objectives": list(keys)})
            records[len(keys)] = api.run(definition, 8, storage=str(path), make_trainer=make_factory(FormulaTrainer()))
    return path, records


@pytest.mark.slow
@pytest.mark.parametrize("keys", OBJECTIVES, ids=len)
def test_front_plot_compare_export(
    mtsearch: Command, stored: tuple[Path, dict[int, Study]], keys: tuple[str, ...]
) -> None:
    path, record = stored[0], stored[1][len(keys)]
    of_one = ("--storage", str(path), "--study", f"of-{len(keys)}")
    front = json.loads(mtsearch("front", *of_one, "--format", "json").out)
    assert [list(each)[: len(keys) + 2] for each in front] == [["trial", *keys, "params"]] * len(record.front)
    assert [tuple(each[key] for key in keys) for each in front] == [each.values for each in record.front]
    lines = list(csv.DictReader(io.StringIO(mtsearch("front", *of_one, "--format", "csv").out)))
    assert [tuple(float(line[key]) for key in keys) for line in lines] == [each.values for each in record.front]
    table = mtsearch("front", *of_one)
    assert table.status == 0
    assert ("the front" if len(keys) > 1 else "the best trial") in table.out
    assert f"{record.front[0].values[-1]:.4f}" in table.out
    assert f"hypervolume {record.hypervolume:.4g}" in table.err

    plotted = mtsearch("plot", *of_one, "-o", "page.html", "--format", "json")
    assert len(json.loads(plotted.out)["trials"]) == len(record.rows)
    page = Path("page.html").read_text(encoding="utf-8")
    assert ("Pareto front" if len(keys) > 1 else "Best so far") in page

    both = ("compare", f"of-{len(keys)}", f"other-{len(keys)}", "--storage", str(path))
    compared = mtsearch(*both, "--format", "json", "-o", "both.html")
    assert list(json.loads(compared.out)["studies"][0]["best"]) == list(keys)
    assert Path("both.html").is_file()
    assert mtsearch(*both).status == 0

    assert record.knee is not None
    exported = mtsearch("export", *of_one, "-o", "best.toml")
    assert exported.err.startswith(f"trial {record.knee.trial}: ")
    assert Export.load(Path("best.toml")).provenance.objectives == keys


@pytest.mark.slow
def test_studies_names_the_objectives_of_each(mtsearch: Command, stored: tuple[Path, dict[int, Study]]) -> None:
    listed = json.loads(mtsearch("studies", "--storage", str(stored[0]), "--format", "json").out)
    shown = {each["study"]: each["objectives"] for each in listed}
    assert {name: text for name, text in shown.items() if name.startswith("of-")} == {
        f"of-{len(keys)}": " ".join(keys) for keys in OBJECTIVES
    }


@pytest.mark.parametrize("keys", OBJECTIVES, ids=len)
def test_a_run_says_each_objective_of_a_trial(keys: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    values = tuple(0.1 * place for place in range(1, len(keys) + 1))
    with TrialProgress([METRICS[key] for key in keys]) as progress:
        progress.start(0, 1)
        progress.add_trial(TrialEnd(0, values, "", 1.0, True, True, 1, "complete", {}, {}, ()))
    said = "  ".join(f"{key} {value:.4f}" for key, value in zip(keys, values, strict=True))
    assert f"trial 0  {said}  1.0 s  [1/1]" in capsys.readouterr().err

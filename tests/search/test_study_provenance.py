"""The provenance of a study and of its exports."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtsearch import api
from mtsearch.data import Split
from mtsearch.search.study import collect_provenance
from tests.helpers.evaluation_cases import make_rows, make_split
from tests.helpers.trainers import FormulaTrainer
from tests.search.test_run import define


def test_validation_rows_of_unknown_users_and_items_are_counted(data: str) -> None:
    interactions, _ = api.prepare(define(data))
    train = make_rows([(0, 0, 3.0), (1, 1, 3.0), (1, 4, 3.0)])  # item 4 is outside the catalogue, and known
    validation = make_rows([(0, 2, 1.0), (0, 4, 1.0), (2, 1, 1.0), (2, 3, 1.0), (1, 0, 1.0)])
    found = collect_provenance(interactions, make_split(3, 5, [0, 1, 2, 3], train, validation), {})["split"]
    assert found["validation_rows_of_unknown_users"] == 2
    assert found["validation_rows_of_unknown_items"] == 2
    assert found["validation_rows_outside_catalogue"] == 1


def test_a_trial_is_exported_with_the_threads_of_its_own_run(data: str, tmp_path: Path) -> None:
    def made(threads: int) -> Any:
        def make(_split: Split, _threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
            return FormulaTrainer(), {"device": f"formula on {threads}", "threads": threads}

        return make

    for threads in (1, 2, 1):
        api.run(define(data), 2, storage=str(tmp_path / "a.db"), make_trainer=made(threads))
    exported = [api.export("s", str(tmp_path / "a.db"), pick=f"trial:{number}").provenance for number in range(6)]
    assert [each.threads for each in exported] == [1, 1, 2, 2, 1, 1]
    assert exported[2].device == "formula on 2"

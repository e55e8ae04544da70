"""Tests that a softmax that cannot fit into memory is refused before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mtsearch import api
from mtsearch.cli import cli
from mtsearch.errors import MachineError
from mtsearch.models import cost
from mtsearch.models.cost import memory_shortage, require_memory
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import StudyDefinition

FULL = TrialConfig(retrieval_loss="full", batch_size=1000)
# 1,000 rows of 5,000 items, 4 bytes each, and a tenth: 22,000,000 bytes.
NEEDED = 22_000_000


def test_the_memory_of_a_softmax() -> None:
    assert memory_shortage(FULL, 2_000, 5_000, NEEDED) is None
    assert memory_shortage(FULL, 2_000, 5_000, None) is None
    shortage = memory_shortage(FULL, 2_000, 5_000, NEEDED - 1)
    assert shortage is not None
    assert "1,000 users with 5,000 items" in shortage
    assert memory_shortage(FULL, 999, 5_000, NEEDED - 1) is None  # a batch has no more users than there are
    for loss in ("in_batch", "corrected"):
        config = TrialConfig.model_validate({"retrieval_loss": loss, "batch_size": 1000})
        assert memory_shortage(config, 2_000, 5_000, 0) is None


def define(**tables: Any) -> StudyDefinition:
    return StudyDefinition.from_mapping({"study": {"name": "a"}, **tables})


CASES = [
    ({"fixed": {"retrieval_loss": "full"}, "space": {"embedding_size": {"low": 8, "high": 16}}}, 1_000, True),
    ({"space": {"retrieval_loss": {"choices": ["corrected", "full"]}}}, 1_000, True),
    ({"space": {"retrieval_loss": {"choices": ["corrected", "in_batch"]}}}, 1_000, False),
    ({"trials": [{}, {"retrieval_loss": "full"}]}, 1_000, True),
    ({"trials": [{"retrieval_loss": "full", "batch_size": 10}]}, 1_000, False),
    ({"fixed": {"retrieval_loss": "full"}, "space": {"batch_size": {"choices": [8192, 10]}}}, 1_000, False),
    (  # values that an initial trial leaves open are sampled
        {
            "fixed": {"retrieval_loss": "full"},
            "space": {"batch_size": {"choices": [8192, 10]}, "learning_rate": {"low": 0.01, "high": 0.1}},
            "trials": [{"learning_rate": 0.05}],
        },
        1_000,
        False,
    ),
    (
        {
            "space": {"retrieval_loss": {"choices": ["corrected", "full"]}, "batch_size": {"choices": [8192, 10]}},
            "trials": [{"batch_size": 8192}],
        },
        1_000,
        True,
    ),
    ({"fixed": {"retrieval_loss": "full"}, "space": {"batch_size": {"choices": [8192, 4096]}}}, 1_000, True),
]


@pytest.mark.parametrize(("tables", "kibibytes", "refused"), CASES)
def test_which_definitions_are_refused(
    tables: dict[str, Any], kibibytes: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "free_memory", lambda: kibibytes << 10)
    monkeypatch.setattr(cost, "visible_gpus", lambda: ())
    if not refused:
        require_memory(define(**tables), 2_000, 5_000)
        return
    with pytest.raises(MachineError, match='set retrieval_loss = "corrected"'):
        require_memory(define(**tables), 2_000, 5_000)


def test_workers_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "free_memory", lambda: NEEDED)
    monkeypatch.setattr(cost, "visible_gpus", lambda: ())
    definition = define(trials=[{"retrieval_loss": "full", "batch_size": 1000}])
    require_memory(definition, 2_000, 5_000)
    with pytest.raises(MachineError):
        require_memory(definition, 2_000, 5_000, workers=2)


def test_run_and_check_refuse_before_there_is_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "free_memory", lambda: 1 << 10)
    monkeypatch.setattr(cost, "visible_gpus", lambda: ())
    ratings = tmp_path / "ratings.csv"
    rows = [f"{user},{item},{(user * item) % 5 + 1}" for user in range(20) for item in range(30)]
    ratings.write_text("\n".join(["user,item,rating", *rows]))
    study = tmp_path / "full.toml"
    study.write_text(
        f'[study]\nname = "full"\n[data]\nsource = "{ratings}"\n[[trials]]\nretrieval_loss = "full"\n', encoding="utf-8"
    )
    with pytest.raises(MachineError, match="compares 20 users with 30 items"):
        api.run(StudyDefinition.load(str(study)), storage=str(tmp_path / "a.db"))
    assert not (tmp_path / "a.db").exists()
    said = CliRunner().invoke(cli, ["check", str(study)])
    assert isinstance(said.exception, MachineError)
    assert "\n" not in str(said.exception)

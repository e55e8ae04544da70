"""The script of the reference table keeps its measurements and does not repeat them."""

import json
from pathlib import Path

import pytest

from mtsearch.data import Split
from tests.benchmarks.reference import METRICS, Figures, Model, Trainers, evaluate_models, table


class Counted:
    """A model with given metrics that counts its evaluations and can raise an error."""

    def __init__(self, log: list[str], name: str, is_slow: bool = False, breaks: bool = False) -> None:
        self.log, self.breaks = log, breaks
        self.model = Model(name, self.evaluate, is_slow, "v1")

    def evaluate(self, split: Split, _trainers: Trainers) -> dict[str, float]:
        assert len(split.train) == 80_000
        assert len(split.test) == 20_000
        if self.breaks:
            raise KeyboardInterrupt
        self.log.append(self.model.name)
        value = float(split.test.ratings.mean())  # tells the splits apart
        return dict.fromkeys(METRICS, value)


def test_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    log: list[str] = []
    figures: Figures = {}
    first = [Counted(log, "a").model, Counted(log, "slow", is_slow=True, breaks=True).model, Counted(log, "b").model]
    with pytest.raises(KeyboardInterrupt):
        evaluate_models(first, (101, 102), figures, path)
    assert log == ["a", "b", "a", "b"]  # the quick ones on every split before the slow one
    held = json.loads(path.read_text())
    assert held == figures
    again: list[str] = []
    models = [Counted(again, "a").model, Counted(again, "slow", is_slow=True).model, Counted(again, "b").model]
    evaluate_models(models, (101, 102), held, path)
    assert again == ["slow", "slow"]
    assert json.loads(path.read_text())["101"]["a v1"] == figures["101"]["a v1"]
    assert figures["101"]["a v1"] != figures["102"]["a v1"]
    assert [name.name for name in tmp_path.iterdir()] == ["r.json"]


def test_means_and_intervals_over_splits() -> None:
    """0.9 and 1.0: s = 0.0707, t(1) = 12.706, half = 12.706 * 0.0707 / sqrt(2) = 0.6353."""
    models = [Counted([], name).model for name in ("one", "both", "none")]
    by_split = [
        {"both v1": dict.fromkeys(METRICS, 0.9), "one v1": dict.fromkeys(METRICS, 0.5)},
        {"both v1": dict.fromkeys(METRICS, 1.0)},
    ]
    lines = table(models, by_split).splitlines()
    assert lines[0] == "| | splits | rmse | rmse_clipped | top_100 | top_100_unseen |"
    assert lines[2] == "| one | 1 | 0.5000 | 0.5000 | 0.5000 | 0.5000 |"
    assert lines[3].startswith("| both | 2 | 0.9500 (0.3147 to 1.5853) |")
    assert len(lines) == 4

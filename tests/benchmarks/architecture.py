"""Count what the architecture promises: modules, rows of the layer contract, modules that a first trial imports.

    python -m tests.benchmarks.architecture

The trial is one of `ml-100k-quick` with a trainer that computes nothing, stored in a new SQLite file.
"""

import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mtsearch import StudyDefinition, TrialConfig, run
from mtsearch.metrics import METRICS
from mtsearch.models.trainer import EpochMetrics, TrialResult

ROOT = Path(__file__).parents[2]


class ConstantTrainer:
    """A trainer of one epoch, whose metrics are the same for every configuration."""

    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        """Return one epoch in which every metric is 0.5."""
        metrics = dict.fromkeys(METRICS, 0.5)
        epoch = EpochMetrics(1, metrics, {}, 0.1)
        on_epoch(epoch)
        return TrialResult(metrics, (epoch,), 1, 10, {"train": 0.1})


def make_trainer(_split: Any, _threads: int | None) -> tuple[ConstantTrainer, Mapping[str, Any]]:
    """Make the trainer, and say on what it trains."""
    return ConstantTrainer(), {"device": "none", "threads": 1}


def main() -> None:
    """Print the three counts."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    with tempfile.TemporaryDirectory() as folder:
        run(StudyDefinition.load("ml-100k-quick"), 1, storage=f"{folder}/a.db", make_trainer=make_trainer)
    imported = [name for name in sys.modules if name.partition(".")[0] == "mtsearch"]
    print(f"{len(list((ROOT / 'mtsearch').rglob('*.py')))} modules")
    print(f"{len(layers)} rows in the contract of layers, {len(contracts) - 1} other contracts")
    print(f"{len(imported)} modules are imported between `api.run` and a stored trial")


if __name__ == "__main__":
    main()

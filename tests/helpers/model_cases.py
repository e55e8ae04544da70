"""Small synthetic splits, and Python code run in a separate process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Rows
from mtsearch.data.split import Split
from mtsearch.host import usable_cores
from mtsearch.models.trainer import EpochMetrics, TrialResult

THREADS = usable_cores()  # one number for the whole process, also for its commands: TensorFlow takes it once


def make_split(users: int = 60, items: int = 80, rows: int = 2000, unknown: int = 0, seed: int = 0) -> Split:
    """Make a split with learnable ratings, a fifth to validate on; the last `unknown` ids have no train rows."""
    rng = np.random.default_rng(seed)
    pairs = rng.integers(users, size=rows), (items * rng.random(rows) ** 2).astype(np.int64)  # some items are popular
    taste = rng.normal(size=(users, 3)) @ rng.normal(size=(3, items))
    ratings = np.clip(np.round(3.5 + taste[pairs] + rng.normal(scale=0.3, size=rows)), 1, 5)
    held_out = rng.random(rows) < 0.2
    held_out |= (pairs[0] >= users - unknown) | (pairs[1] >= items - unknown)
    everything = Rows(
        pairs[0].astype(np.int32), pairs[1].astype(np.int32), ratings.astype(np.float32), np.zeros(rows, np.int64)
    )
    train, validation = (everything.take(np.flatnonzero(part)).sorted() for part in (~held_out, held_out))
    return Split(
        user_ids=np.array([f"user {code:04}" for code in range(users)], object),
        item_ids=np.array([f"item {code:04}" for code in range(items)], object),
        catalogue=np.arange(items, dtype=np.int32),
        train=train,
        validation=validation,
        test=validation,
        fingerprint="synthetic",
    )


class TutorialScorer:
    """A joint model with the tutorial's two tasks, as one `Scorer`."""

    def __init__(self, compiled: Any, catalogue: NDArray[np.int32]) -> None:
        from mtsearch.models.joint_scorer import ModelScorer
        from mtsearch.models.members import Member

        tasks: Any = ModelScorer([Member.present(compiled)], catalogue)
        self._head, self._tower = tasks.of_task("rating"), tasks.of_task("retrieval")

    def ratings(self, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        ratings: NDArray[np.float32] = self._head.ratings(users, items)
        return ratings

    def scores(self, users: NDArray[np.int32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._tower.scores(users)
        return scores


def numbers(result: TrialResult) -> list[dict[str, float]]:
    """Return all numbers of a trial that its seed determines, epoch by epoch."""
    return [{**epoch.metrics, "rating": epoch.losses["rating"], "retrieval": epoch.losses["retrieval"]}
            for epoch in result.curve]  # fmt: skip


def go_on(_: EpochMetrics) -> bool:
    return True


def recorder(seen: list[EpochMetrics]) -> Callable[[EpochMetrics], bool]:
    """Return a callback that appends every epoch to `seen` and lets the training go on."""

    def on_epoch(epoch: EpochMetrics) -> bool:
        seen.append(epoch)
        return True

    return on_epoch


def batches(order: NDArray[np.int32], batch_size: int) -> list[NDArray[np.intp]]:
    index = order.astype(np.intp)
    return [index[start : start + batch_size] for start in range(0, len(order), batch_size)]


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process with the same import path."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def answer_of(code: str) -> Any:
    """Return the JSON that code prints in a fresh process."""
    process = run_python(code)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)

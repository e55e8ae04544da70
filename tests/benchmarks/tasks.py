"""Measure what a third task costs, and what rows without a rating are worth.

    python -m tests.benchmarks.tasks cost [--rounds 7]
    python -m tests.benchmarks.tasks sparse [--known 0.03] [--trials 20] [--seeds 3]

`cost` trains MovieLens 100K by turns with the tutorial's two tasks, with a third one, and with the third one alone, and
prints CPU seconds of an epoch. What is beside the third task's own arithmetic is the difference, as a share of both.

`sparse` takes the ratings from all but a share of the training rows, drawn once per seed, and runs the default study
three times, with equal proposals: as it is, without the rows that have no rating, and with all ratings known. It prints
the best validation RMSE and the best top-100 accuracy of each. Takes about 4 minutes a seed on 2 cores.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mtsearch import api
from mtsearch.data.interactions import Rows, Task
from mtsearch.data.split import Split
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import StudyDefinition


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "sparse"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--known", type=float, default=0.03)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if options.what == "cost":
        measure_cost(options.rounds)
        return
    for seed in range(options.seeds):
        measure_sparse(options.known, options.trials, seed)


def with_third(split: Split, kind: str, share: float) -> Split:
    """Return a split with a third task, which a share of the rows serve."""

    def serve(rows: Rows) -> Rows:
        serves = np.random.default_rng(0).random(len(rows)) < share
        target = rows.ratings > 3 if kind == "label" else np.ones(len(rows))
        return replace(rows, targets=(np.where(serves, target, np.nan).astype(np.float32),))

    train, validation, test = (serve(rows) for rows in (split.train, split.validation, split.test))
    third = Task("third", "label" if kind == "label" else "retrieval", 0)
    return replace(split, train=train, validation=validation, test=test, tasks=(*split.tasks, third))


def measure_cost(rounds: int) -> None:
    """Print the CPU seconds of an epoch with two tasks, with three, and with the third one alone."""
    from mtsearch.models import Device, JointTrainer

    _, split = api.prepare(StudyDefinition.load("ml-100k-quick"))
    device, config = Device.default(1), TrialConfig(losses="normalized", epochs=4)
    cases = {"two tasks": split}
    for kind in ("label", "retrieval"):
        for share in (1.0, 0.05):
            name, three = f"{kind} of {share:.0%} of the rows", with_third(split, kind, share)
            cases |= {name: three, f"{name}, alone": replace(three, tasks=three.tasks[2:])}
    trainers = {name: JointTrainer(each, device, validate=False) for name, each in cases.items()}

    def seconds(trainer: JointTrainer) -> float:
        begun = time.process_time()
        trainer.train(config, lambda _: True)
        return (time.process_time() - begun) / config.epochs

    for trainer in trainers.values():
        trainer.train(config, lambda _: True)
    found = [{name: seconds(each) for name, each in trainers.items()} for _ in range(rounds)]
    middle = {name: statistics.median(each[name] for each in found) for name in cases}
    print(f"two tasks: {1000 * middle['two tasks']:.0f} ms an epoch")
    for name, with_it in middle.items():
        if (alone := middle.get(f"{name}, alone")) is not None:
            beside = with_it / (middle["two tasks"] + alone) - 1
            print(f"{name}: {1000 * with_it:.0f} ms, alone {1000 * alone:.0f} ms; {beside:+.0%} beside both")


def write_table(split: Split, path: Path, is_known: Callable[[int], bool]) -> None:
    """Write the rows of a split with their part; the ratings of training rows that are not known are left empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("user", "item", "rating", "part"))
        for part in ("train", "validation", "test"):
            rows: Rows = getattr(split, part)
            users, items = split.user_ids[rows.users], split.item_ids[rows.items]
            for number, (user, item, rating) in enumerate(zip(users, items, rows.ratings.tolist(), strict=True)):
                writer.writerow((user, item, rating if part != "train" or is_known(number) else "", part))


def measure_sparse(known: float, trials: int, seed: int) -> None:
    """Print the best of a study with few ratings, of one without the rows that have none, and of one with all."""
    _, split = api.prepare(StudyDefinition.load("ml-100k"))
    size = len(split.train)
    drawn = set(np.random.RandomState(seed).permutation(size)[: round(known * size)].tolist())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(split, folder / "few.csv", drawn.__contains__)
        write_table(split, folder / "all.csv", lambda _: True)
        cases = {
            f"{known:.0%} of the ratings known": ("few.csv", ""),
            "rows without a rating left out": ("few.csv", "drop"),
            "all ratings known": ("all.csv", ""),
        }
        for case, (file, missing) in cases.items():
            overrides = ['split.method="column"', 'split.column="part"', f"study.seed={seed}"]
            overrides += ['data.missing="drop"'] if missing else []
            definition = StudyDefinition.load("ml-100k", overrides, {"data.source": str(folder / file)})
            study = api.run(definition, trials, storage=str(folder / f"{missing}{file}.db"))
            done = [row.metrics for row in study.rows if row.metrics]
            rmse, top = min(each["rmse"] for each in done), max(each["top_100"] for each in done)
            print(f"seed {seed}, {case}: RMSE {rmse:.4f}, top-100 {top:.4f}, of {len(done)} trials", flush=True)


if __name__ == "__main__":
    main()

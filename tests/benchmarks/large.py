"""Measure a training step on many rows and a large catalogue: the tutorial, its maintainers' advice, and mtsearch.

    python -m tests.benchmarks.large [--rows 1e6 5e6 25e6] [--whole] [-o large.json]
    python -m tests.benchmarks.large --losses [--rows 1e6]

25 million ratings, 162,000 users and 62,000 items, batches of 8,192, D = 32, two cores. A rival is given a slice: the
tutorial's form would take days. Costs per row are of `--steps` steps of an epoch drawn from all rows, and of judging
the rows of `--judged` users; `--whole` trains and judges all, for the peak of memory. Every part runs in a process of
its own, by turns; ratios are what to quote. Takes about 15 minutes, the whole epoch as much again.

`--losses` compares a step of each loss of retrieval instead, with the rating layers of the tutorial and with one of 32,
and with the optimiser that updates whole tables and the one that updates the rows of a batch.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from mtsearch.data import Split, make_split
from mtsearch.data.synthetic import make_synthetic
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.sections import SplitSection

ROWS, USERS, ITEMS = 25_000_000, 162_000, 62_000
# NOTE: the loss ratio of the quick study's front; at 1/1 the ratings are chaotic.
CONFIG = TrialConfig(retrieval_weight=0.05, learning_rate=0.1, epochs=1)
RIVAL_ROWS = 1_000_000
PART = "--part"


def main() -> None:
    """Measure in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, nargs="+", default=[1e6, 5e6, ROWS])
    parser.add_argument("--steps", type=int, default=60, help="timed steps of mtsearch; a fifth as many of the advised")
    parser.add_argument("--judged", type=int, default=2_000, help="users whose rows mtsearch judges")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--whole", action="store_true", help="train and judge everything once, at the most rows")
    parser.add_argument("--losses", action="store_true", help="compare the losses of retrieval alone")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument(PART, nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part[0]](*map(int, options.part[1:]))))
        return
    sizes = [int(rows) for rows in options.rows]
    if options.losses:
        figures_of_losses = [child("losses", min(sizes), options.steps) for _ in range(options.rounds)]
        for name in figures_of_losses[0]:
            if name.endswith(" cpu"):
                wall, cpu = (
                    statistics.median(each[key] for each in figures_of_losses)
                    for key in (name.removesuffix(" cpu"), name)
                )
                print(f"{name.removesuffix(' cpu')}: {wall * 1e3:.1f} ms a step ({cpu * 1e3:.1f} of processors)")
        return
    figures: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        figures.setdefault("advised", []).append(child("advised", max(3, options.steps // 5)))
        for size in sizes:
            figures.setdefault(f"mtsearch {size}", []).append(child("ours", size, options.steps, options.judged))
    figures["published"] = [child("published", 1)]
    if options.whole:
        figures["whole"] = [child("whole", max(sizes))]
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1))
    report(figures, sizes)


def child(*part: object) -> dict[str, float]:
    """Run one part in a separate process; return its figures and the peak memory of all its processes."""
    command = [sys.executable, "-m", "tests.benchmarks.large", PART, *map(str, part)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        tree, peak = psutil.Process(process.pid), 0
        while process.poll() is None:
            peak = max(peak, _resident(tree))
            time.sleep(0.1)
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    if process.returncode:
        sys.exit(f"{part} failed")
    result: dict[str, float] = json.loads(lines[-1])
    return result | {"peak": peak}


def _resident(tree: psutil.Process) -> int:
    total = 0
    for process in [tree, *tree.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:  # it has ended
            continue
    return total


def split_of(rows: int) -> Split:
    """Make a split of rows drawn from the largest table, with a tenth to evaluate: the mixture is always the same.

    A table of fewer rows has other long tails, and its batches other numbers of different items.
    """
    table = make_synthetic(ROWS, USERS, ITEMS)
    if rows < ROWS:
        chosen = np.sort(np.random.default_rng(0).permutation(ROWS)[:rows])
        table = replace(table, rows=table.rows.take(chosen))
    return make_split(table, SplitSection(test=0.1, validation="test"))


def ours(rows: int, steps: int, judged: int) -> dict[str, float]:
    """Return the seconds per step, per evaluated row, and to draw an epoch's order."""
    from mtsearch.evaluation import Evaluator
    from mtsearch.models import Device, JointTrainer
    from mtsearch.models.device import EpochOrder, EpochOrders
    from mtsearch.models.joint_scorer import ModelScorer
    from mtsearch.models.members import Member

    split = split_of(rows)
    trainer = JointTrainer(split, Device.default(), validate=False)
    compiled = trainer.compiled_model(CONFIG)
    compiled.reset(CONFIG)
    orders = EpochOrders(split.train.items)
    result, order = timed("order", lambda: orders.draw(CONFIG.batch_size, CONFIG.seed, 1))
    used = min(steps * CONFIG.batch_size, len(order.rows) // CONFIG.batch_size * CONFIG.batch_size)
    first, timed_rows = (EpochOrder(*(part[:size] for part in order)) for size in (CONFIG.batch_size, used))
    compiled.epoch(first, CONFIG.batch_size)
    seconds, losses = timed("step", lambda: float(compiled.epoch(timed_rows, CONFIG.batch_size).of_tasks[1]))
    assert np.isfinite(losses)
    result |= {name: value * CONFIG.batch_size / used for name, value in seconds.items()}
    result["order per row"] = result["order"] / len(order.rows)
    chosen = np.random.default_rng(0).permutation(USERS)[:judged]
    some = split.validation.take(np.flatnonzero(np.isin(split.validation.users, chosen)))
    evaluator = Evaluator(split, some)
    seconds, _ = timed("judge", lambda: evaluator.evaluate(ModelScorer([Member.present(compiled)], split.catalogue)))
    return result | {name: value / len(some) for name, value in seconds.items()}


def losses(rows: int, steps: int) -> dict[str, float]:
    """Return the seconds of a step with each loss of retrieval, by turns."""
    from mtsearch.models import Device, JointTrainer
    from mtsearch.models.device import EpochOrder, EpochOrders

    split = split_of(rows)
    trainer = JointTrainer(split, Device.default(), validate=False)
    order = EpochOrders(split.train.items).draw(CONFIG.batch_size, CONFIG.seed, 1)
    used = min(steps, len(order.rows) // CONFIG.batch_size) * CONFIG.batch_size
    first, timed_rows = (EpochOrder(*(part[:size] for part in order)) for size in (CONFIG.batch_size, used))
    results: dict[str, float] = {}
    for optimizer in ("adagrad", "adam"):
        for layers in ("32", CONFIG.hidden_layers):
            for loss in ("corrected", "squared"):
                changes = {"retrieval_loss": loss, "optimizer": optimizer, "hidden_layers": layers}
                config = CONFIG.model_copy(update={**changes, "learning_rate": 0.01, "losses": "normalized"})
                compiled = trainer.compiled_model(config)
                compiled.reset(config)
                compiled.epoch(first, CONFIG.batch_size)
                name = f"{optimizer}, layers {layers}, {loss}"
                seconds, last = timed(name, partial(compiled.epoch, timed_rows, CONFIG.batch_size))
                assert np.isfinite(float(last.of_tasks[1]))
                results |= {key: value * CONFIG.batch_size / used for key, value in seconds.items()}
    return results


def advised(steps: int) -> dict[str, float]:
    """Measure the advised form: integer ids, cached, no metrics in training."""
    return _rival(steps, strings=False)


def published(steps: int) -> dict[str, float]:
    """Measure the published form: strings, and FactorizedTopK at every step."""
    return _rival(steps, strings=True)


def _rival(steps: int, strings: bool, judged: int = 512) -> dict[str, float]:
    from mtsearch.models.device import EpochOrders
    from tests.benchmarks import rivals

    split = split_of(RIVAL_ROWS)
    model = (rivals.as_published if strings else rivals.as_advised)(split, CONFIG)
    order = EpochOrders(split.train.items).draw(CONFIG.batch_size, CONFIG.seed, 1).rows
    # NOTE: of its rows in the order drawn, as many as the steps have: a slice of the rows would have fewer users.
    some = order[: steps * CONFIG.batch_size]
    batches = rivals.batches(split, split.train, some, CONFIG.batch_size, strings)
    model.fit(batches, verbose=0)  # traces
    result, _ = timed("step", lambda: model.fit(batches, verbose=0))
    result = {name: value / steps for name, value in result.items()}
    if strings:
        return result
    rows = np.arange(judged, dtype=np.int32)
    held_out = rivals.batches(split, split.validation, rows, judged, strings)
    model.evaluate(held_out, verbose=0)
    seconds, _ = timed("judge", lambda: model.evaluate(held_out, verbose=0))
    return result | {name: value / judged for name, value in seconds.items()}


def whole(rows: int) -> dict[str, float]:
    """Train and evaluate one epoch as a trial does."""
    from mtsearch.models import Device, JointTrainer

    split = split_of(rows)
    seconds, result = timed("trial", lambda: JointTrainer(split, Device.default()).train(CONFIG, lambda _: True))
    return {**seconds, **result.seconds, **result.metrics}


PARTS: dict[str, Callable[..., dict[str, float]]] = {
    "ours": ours, "advised": advised, "published": published, "whole": whole,
    "losses": losses,
}  # fmt: skip


def timed(name: str, call: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Return wall-clock seconds, processor seconds, and the result of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return {name: time.perf_counter() - wall, f"{name} cpu": time.process_time() - cpu}, result


def report(figures: dict[str, list[dict[str, float]]], sizes: list[int]) -> None:
    """Print the medians over the rounds."""

    def median(part: str, key: str) -> float:
        return statistics.median(each[key] for each in figures[part])

    def cells(part: str, what: str, unit: float) -> str:
        wall, cpu = median(part, what), median(part, f"{what} cpu")
        ratios = wall / median(best, what), cpu / median(best, f"{what} cpu")
        return f"{wall * unit:.0f} ({cpu * unit:.0f}) | {ratios[0]:.1f} ({ratios[1]:.1f})"

    best = f"mtsearch {max(sizes)}"
    print("| | ms per step (cpu) | times | us per judged row (cpu) | times | us per row to draw the order |")
    print("|--|--|--|--|--|--|")
    for name, runs in figures.items():
        if name == "whole":
            continue
        step, judge = cells(name, "step", 1e3), cells(name, "judge", 1e6) if "judge" in runs[0] else " | "
        order = f"{median(name, 'order per row') * 1e6:.2f}" if "order" in runs[0] else ""
        print(f"| {name} | {step} | {judge} | {order} |")
    per_step = [median(f"mtsearch {size}", "step cpu") for size in sizes]
    print(f"\ncost per row, most over least rows, cpu: {per_step[-1] / per_step[0]:.2f}")
    for each in figures.get("whole", []):
        print("a whole epoch:", ", ".join(f"{key} {value:.4g}" for key, value in each.items()),
              f"GiB {each['peak'] / 2**30:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()

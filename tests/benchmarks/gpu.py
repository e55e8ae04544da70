"""Measure training on the GPU beside the CPU of the same machine, in one run.

    python -m tests.benchmarks.gpu [--only PART ...] [--trials 50] [--rows 25e6] [-o gpu.jsonl]

Parts: `trials` (one trainer's trials of each definition, by phase), `studies` (`mtsearch run` with several workers on
the card and on the cores), `large` (an epoch of many rows and its evaluation), `growth` (device and host memory over
200 trials), `same` (whether two trainings give the same bits), `precision` (bfloat16 beside float32). Every measurement
runs in a process of its own and is printed as a line of JSON as soon as it is there. Takes about 10 minutes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

DEFINITIONS = ("ml-100k", "ml-100k-quick")
PART = "--part"
Figures = dict[str, Any]


def main() -> None:
    """Run the parts one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(PLANS), default=tuple(PLANS), metavar="PART")
    parser.add_argument("--trials", type=int, default=50, help="of each study")
    parser.add_argument("--rows", type=float, default=25e6, help="of the large table")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument(PART, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, arguments = json.loads(options.part)
        print(json.dumps(MEASURED[name](**arguments)))
        return
    for part in options.only:
        for name, arguments in PLANS[part](options):
            line = json.dumps({"part": part, **arguments, **child(name, arguments)})
            print(line, flush=True)
            if options.output:
                with options.output.open("a") as file:
                    file.write(line + "\n")


def child(name: str, arguments: Figures) -> Figures:
    """Measure in a separate process, on the GPU or on the CPU alone."""
    hidden = {} if arguments.get("on", "gpu") == "gpu" else {"CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-m", "tests.benchmarks.gpu", PART, json.dumps([name, arguments])]
    start = time.perf_counter()
    done = subprocess.run(command, check=False, env=os.environ | hidden, capture_output=True, text=True)
    if done.returncode:
        return {"failed": done.stderr[-1500:]}
    result: Figures = json.loads(done.stdout.splitlines()[-1])
    return result | {"whole": round(time.perf_counter() - start, 2)}


def plan_trials(_options: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    """Yield the trials: on the GPU with and without XLA, on the CPU with all cores and with one."""
    for definition in DEFINITIONS:
        for on, xla, threads in (("gpu", True, 0), ("gpu", False, 0), ("cpu", False, 0), ("cpu", False, 1)):
            yield "trials", {"definition": definition, "on": on, "xla": xla, "threads": threads}


def plan_studies(options: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    """Yield the studies."""
    for definition in DEFINITIONS:
        for on, workers in (("gpu", (1, 2, 4, 8)), ("cpu", (1, "auto"))):
            for count in workers:
                yield "study", {"definition": definition, "on": on, "workers": count, "trials": options.trials}


def plan_large(options: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    """Yield the large table."""
    for on in ("gpu", "cpu"):
        yield "large", {"on": on, "rows": int(options.rows)}


def plan_growth(_options: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    """Yield the long series of trials."""
    yield "growth", {"on": "gpu", "trials": 200}


def plan_same(_options: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    """Yield the repeated trainings."""
    for deterministic in (False, True):
        yield "same", {"on": "gpu", "deterministic": deterministic}


def plan_precision(_options: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    """Yield both precisions of wide hidden layers."""
    for precision in ("float32", "bfloat16"):
        yield "precision", {"on": "gpu", "precision": precision}


PLANS: dict[str, Callable[[argparse.Namespace], Iterator[tuple[str, Figures]]]] = {
    "trials": plan_trials, "studies": plan_studies, "large": plan_large, "growth": plan_growth,
    "same": plan_same, "precision": plan_precision,
}  # fmt: skip


def _trainer(definition: str, threads: int = 0, xla: bool | None = None) -> tuple[Any, Any]:
    """Return a trainer, and the starting point of a definition as a configuration."""
    from mtsearch.data import load, make_split
    from mtsearch.models import Device, JointTrainer
    from mtsearch.study_file.config import TrialConfig
    from mtsearch.study_file.definition import StudyDefinition

    read = StudyDefinition.load(definition)
    device = Device.default(threads or None)
    trainer = JointTrainer(
        make_split(load(read.data, read.split), read.split), device if xla is None else replace(device, xla=xla)
    )
    return trainer, TrialConfig.model_validate({**read.fixed, **read.starting_point()})


def trials(definition: str, on: str, xla: bool, threads: int) -> Figures:
    """Return the seconds of a first trial, which traces and compiles, and medians over five later ones, by phase."""
    trainer, config = _trainer(definition, threads, xla and on == "gpu")
    runs = [trainer.train(config, _go_on) for _ in range(6)]
    first, later = runs[0].seconds, [run.seconds for run in runs[1:]]
    return {
        "device": trainer.device.description,
        "first": {phase: round(seconds, 4) for phase, seconds in first.items()},
        "later": {phase: round(statistics.median(each[phase] for each in later), 4) for phase in first},
        "seconds": round(statistics.median(sum(each.values()) for each in later), 4),
        "metrics": {key: runs[-1].metrics[key] for key in ("rmse", "top_100")},
        "steps": config.epochs * -(-len(trainer.split.train) // config.batch_size),
    }


def study(definition: str, on: str, workers: int | str, trials: int) -> Figures:
    """Time `mtsearch run` from prompt to prompt, and from the first trial's begin to the last one's end."""
    import optuna

    command = [sys.executable, "-m", "mtsearch", "run", definition, "--trials", str(trials), "--workers", str(workers)]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run([*command, "--storage", "a.db"], check=False, cwd=folder, capture_output=True, text=True)
        wall = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(done.stdout[-500:] + done.stderr[-1000:])
        stored = optuna.load_study(study_name=None, storage=f"sqlite:///{folder}/a.db").trials
    begun, ended = (sorted(getattr(trial, f"datetime_{name}") for trial in stored) for name in ("start", "complete"))
    inside = (ended[-1] - begun[0]).total_seconds()
    halfway = (ended[-1] - ended[len(ended) // 2]).total_seconds()
    return {
        "wall": round(wall, 2),
        "inside": round(inside, 2),
        "per minute": round(60 * trials / wall, 1),
        "per minute, second half": round(60 * (trials - 1 - trials // 2) / halfway, 1),
    }


def large(on: str, rows: int) -> Figures:
    """Return the seconds of an epoch and its evaluation, by phase, twice: the first traces and compiles.

    On a CPU, where they take many minutes, those of 60 steps and of the rows of 2,000 users stand for them.
    """
    from mtsearch.models import Device, JointTrainer
    from tests.benchmarks.large import CONFIG, ours, split_of

    if on == "cpu":
        return ours(rows, 60, 2_000)
    start = time.perf_counter()
    split = split_of(rows)
    made = time.perf_counter() - start
    trainer = JointTrainer(split, Device.default())
    runs = [trainer.train(CONFIG, _go_on) for _ in range(2)]
    seconds = [{phase: round(value, 2) for phase, value in run.seconds.items()} for run in runs]
    return {"data": round(made, 1), "seconds": seconds, "metrics": runs[-1].metrics, **_device_memory()}


def growth(on: str, trials: int) -> Figures:
    """Return the memory of device and host after 20 trials of changing sizes and after all."""
    import psutil

    trainer, config = _trainer("ml-100k-quick")
    figures: Figures = {}
    for number in range(1, trials + 1):
        size = (16, 32, 64, 128)[number % 4]
        trainer.train(config.model_copy(update={"embedding_size": size, "seed": number}), _go_on)
        if number in (20, trials // 2, trials):
            figures[f"after {number}"] = {"host": psutil.Process().memory_info().rss, **_device_memory()}
    return figures


def same(on: str, deterministic: bool) -> Figures:
    """Return how far apart the weights of two trainings of one configuration are."""
    import numpy as np
    import tensorflow as tf

    if deterministic:
        tf.config.experimental.enable_op_determinism()
    figures: Figures = {}
    for definition in DEFINITIONS:
        trainer, config = _trainer(definition)
        seconds, weights = [], []
        for _ in range(3):
            result = trainer.train(config, _go_on)
            seconds.append(round(sum(result.seconds.values()), 3))
            weights.append([variable.numpy() for variable in trainer.last_model().model.trainable_variables])
        furthest = max(float(np.abs(a - b).max()) for a, b in zip(*weights[1:], strict=True))
        figures[definition] = {"furthest": furthest, "seconds": seconds}
    return figures


def precision(on: str, precision: str) -> Figures:
    """Return the seconds of trials with wide hidden layers."""
    trainer, config = _trainer("ml-100k")
    wide = config.model_copy(update={"hidden_layers": "1024-1024-512", "precision": precision})
    runs = [trainer.train(wide, _go_on) for _ in range(3)]
    return {"seconds": [run.seconds for run in runs], "metrics": runs[-1].metrics}


def _go_on(_epoch: object) -> bool:
    return True


def _device_memory() -> Figures:
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return {}
    memory = tf.config.experimental.get_memory_info("GPU:0")
    return {"device current": memory["current"], "device peak": memory["peak"]}


MEASURED: dict[str, Callable[..., Figures]] = {
    "trials": trials, "study": study, "large": large, "growth": growth, "same": same, "precision": precision
}  # fmt: skip


if __name__ == "__main__":
    main()

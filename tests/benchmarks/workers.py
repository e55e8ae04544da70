"""Measure trials per minute by workers and threads, and the time of a study beside training, in one run.

    python -m tests.benchmarks.workers [--definition NAME ...] [--trials 50] [--rounds 3] [-o workers.json]

Runs `mtsearch run` with one worker on one core, with one worker on two, and with two workers of a thread each, in
turns, and with `--workers auto`. Trials per minute are counted from prompt to prompt, Python's start, TensorFlow's
import and tracing included. Ratios are what to quote. A round takes about 10 minutes on 2 cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna

from mtsearch.search import attributes
from mtsearch.search.storage import open_reader
from mtsearch.search.storage.url import resolve_url


@dataclass(frozen=True)
class Way:
    """A way to run a study.

    Attributes:
        cores: that the command may use.
        workers: as `--workers` takes them.
    """

    cores: int
    workers: str


WAYS = {"1 x 1": Way(1, "1"), "1 x 2": Way(2, "1"), "2 x 1": Way(2, "2"), "auto": Way(2, "auto")}
"""By workers x threads of each."""


@dataclass(frozen=True)
class Run:
    """The figures of one study.

    Attributes:
        per_minute: trials, from prompt to prompt.
        overhead: share of the time from the first trial's begin to the last one's end that its workers did not spend
            on preparing, training and evaluating: storage, sampling, bookkeeping.
    """

    per_minute: float
    overhead: float


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--definition", nargs="+", default=["ml-100k-quick", "ml-100k"], metavar="NAME")
    parser.add_argument("--trials", type=int, default=50, help="in each study")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("this takes two cores")
    runs: dict[str, dict[str, list[Run]]] = {}
    for definition in options.definition:
        found = runs[definition] = {name: [] for name in WAYS}
        for _ in range(options.rounds):
            for name, way in WAYS.items():
                found[name].append(study(definition, options.trials, way))
        print(f"\n{definition}, {options.trials} trials\n\n{table(found)}", flush=True)
        if options.output:
            options.output.write_text(json.dumps(runs, indent=1, default=asdict))


def study(definition: str, trials: int, way: Way) -> Run:
    """Run the command, and read the results of its trials."""
    cores = sorted(os.sched_getaffinity(0))[: way.cores]
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "study.db"
        command = ["run", definition, "--trials", str(trials), "--workers", way.workers, "--storage", str(database)]
        start = time.perf_counter()
        subprocess.run(
            ["taskset", "--cpu-list", ",".join(map(str, cores)), sys.executable, "-m", "mtsearch", *command],
            check=True,
            capture_output=True,
        )
        wall = time.perf_counter() - start
        return Run(60 * trials / wall, overhead(database))


def overhead(database: Path) -> float:
    """Return the time beside training; see `Run`."""
    storage = open_reader(resolve_url(str(database)))
    [summary] = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    trials, workers = study.get_trials(), study.user_attrs[attributes.PROVENANCE]["trainer"]["workers"]
    begun = min(trial.datetime_start for trial in trials if trial.datetime_start)
    ended = max(trial.datetime_complete for trial in trials if trial.datetime_complete)
    model = sum(sum(trial.user_attrs[attributes.SECONDS].values()) for trial in trials)
    return float(1 - model / (workers * (ended - begun).total_seconds()))


def table(found: dict[str, list[Run]]) -> str:
    """Return a Markdown table with a row per way: medians over the rounds."""
    alone = statistics.median(run.per_minute for run in found["1 x 1"])
    lines = ["| workers x threads | trials per minute | x 1 x 1 | beside training |", "|--|--|--|--|"]
    for name, runs in found.items():
        rates = [run.per_minute for run in runs]
        median = statistics.median(rates)
        share = statistics.median(run.overhead for run in runs)
        lines.append(
            f"| {name} | {median:.0f} ({min(rates):.0f}-{max(rates):.0f}) | {median / alone:.2f} | {share:.1%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Measure what the owner of a study sustains, with trainers that sleep: overhead, cost of a trial, many workers.

    python -m tests.benchmarks.scale overhead [--workers 1 2 4 8 16 32 64 100] [--trials 1000] [--seconds 1]
    python -m tests.benchmarks.scale owner [--stored 100 1000 10000]
    python -m tests.benchmarks.scale busy [--workers 200] [--seconds 60] [--trials 2000]
    python -m tests.benchmarks.scale selection [--trials 1000] [--seeds 3]

`overhead` runs trials of one second on local Ray workers and prints the wall clock beside the ideal, which is the
number of trials by the number of workers, times a second. The clock starts when all workers are ready. A run of N
workers has at most 30 N trials, so that one worker does not take a quarter of an hour.

`owner` fills a study with made-up trials and prints the milliseconds that the owner takes to propose one and to store
its end, on SQLite, and the trials per second that follow from it; beside it what Optuna's own TPE takes to propose one.
More than 3,000 are stored in memory alone, since SQLite takes 20 to 60 ms for each.

`busy` simulates long trials of many workers: time passes by the owner's own work, which is real, and by trainings,
which take no time here. It prints the share of the workers' time in which they train.

`selection` prints the hypervolume that Optuna's TPE reaches on two functions, and the one of mtsearch if it learns from
good trials and bad ones that are a tenth of all at most, as it does in a study of 10,000.
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import create_trial

from mtsearch import StudyDefinition
from mtsearch.data import Split
from mtsearch.executors import OnEpoch, RayOptions, open_executor
from mtsearch.models.trainer import EpochMetrics, TrainingEnd, TrialResult
from mtsearch.search import attributes
from mtsearch.search.pareto import hypervolume
from mtsearch.search.run import Budget, Executor, run_trials
from mtsearch.search.samplers import TPE, InitialTrialsSampler, make_sampler
from mtsearch.search.space import Space
from mtsearch.search.storage import open_writer
from mtsearch.search.storage.owner import OwnerStorage
from mtsearch.search.storage.url import resolve_url
from mtsearch.search.trial import TrialEnd, TrialFactory
from mtsearch.study_file.config import TrialConfig
from tests.helpers.trainers import FormulaTrainer, metrics_of

SPACE = {
    "rating_weight": {"low": 0.01, "high": 1.0, "log": True},
    "retrieval_weight": {"low": 0.001, "high": 1.0, "log": True},
    "embedding_size": {"choices": [16, 32, 64, 128]},
    "learning_rate": {"low": 0.01, "high": 0.8, "log": True},
}
MOST_PER_WORKER = 30
MOST_ON_DISK = 3000


def main() -> None:
    """Run the part that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["overhead", "owner", "busy", "selection"])
    parser.add_argument("--workers", type=int, nargs="+", metavar="N")
    parser.add_argument("--trials", type=int, metavar="N")
    parser.add_argument("--seconds", type=float, metavar="S", help="of one trial")
    parser.add_argument("--stored", type=int, nargs="+", default=[100, 1000, 10_000], metavar="N")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, Python process {os.getpid()}")
    if options.part == "overhead":
        os.environ["MTSEARCH_SCALE_SECONDS"] = str(options.seconds or 1.0)
        for workers in options.workers or (1, 2, 4, 8, 16, 32, 64, 100):
            measure_overhead(workers, options.trials or 1000, options.seconds or 1.0)
    elif options.part == "owner":
        for stored in options.stored:
            measure_owner(stored)
    elif options.part == "selection":
        measure_selection(options.trials or 1000, options.seeds)
    else:
        for workers in options.workers or (200,):
            measure_busy(workers, options.trials or 10 * workers, options.seconds or 60.0)


def sleeping(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Make a trainer that sleeps for MTSEARCH_SCALE_SECONDS in one epoch."""
    seconds = float(os.environ.get("MTSEARCH_SCALE_SECONDS", "1"))
    return FormulaTrainer(lambda _config, _epoch: time.sleep(seconds)), {"device": "none", "threads": threads}


def measure_overhead(workers: int, most: int, seconds: float) -> None:
    """Print the wall clock of trials that sleep on local Ray workers, beside the ideal."""
    import ray

    trials = min(most, MOST_PER_WORKER * workers)
    ray.init(num_cpus=workers, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    options = RayOptions(workers=workers)
    with new_study() as study, open_executor(None, options, sleeping, 1) as executor:  # type: ignore[arg-type] # unread
        while executor.ready < workers:
            executor.wait(0.5)
        begun = time.perf_counter()
        run(study, executor, trials)
        wall = time.perf_counter() - begun
    ray.shutdown()
    ideal = math.ceil(trials / workers) * seconds
    print(
        f"{workers:4d} workers, {trials} trials: {wall:.1f} s, ideal {ideal:.1f} s, {wall / ideal - 1:+.1%}", flush=True
    )


def measure_owner(stored: int, trials: int = 30) -> None:
    """Print what a trial costs the owner of a study with so many trials, and what a proposal of Optuna's TPE costs."""
    in_memory = stored > MOST_ON_DISK
    with new_study(in_memory) as study:
        fill(study, stored)
        ours, theirs = study.sampler, optuna.samplers.TPESampler(seed=0)
        factory, ending = TrialFactory(study, definition(), _Never()), list[float]()
        factory.propose().give_back("the first proposal reads the stored trials")
        proposing: dict[optuna.samplers.BaseSampler, list[float]] = {ours: [], theirs: []}
        for done in range(2 * trials):
            study.sampler = theirs if done % 2 else ours
            begun = time.perf_counter()
            trial = factory.propose()
            proposed = time.perf_counter()
            trial.end(TrainingEnd(trial.number, result_of(trial.config)), stored + done)
            proposing[study.sampler].append(proposed - begun)
            ending.append(time.perf_counter() - proposed)
    propose, optunas, end = (statistics.median(each) * 1e3 for each in (*proposing.values(), ending))
    print(
        f"{stored:6d} stored trials{' in memory' if in_memory else ''}: propose {propose:5.1f} ms (Optuna's TPE "
        f"{optunas:5.1f} ms), store the end {end:5.1f} ms, {1e3 / (propose + end):5.1f} trials a second",
        flush=True,
    )


def measure_busy(workers: int, trials: int, seconds: float) -> None:
    """Print the share of simulated time in which workers train, where the owner's work takes its real time."""
    with new_study() as study:
        executor = SimulatedExecutor(workers, seconds)
        run(study, executor, trials)
        share = trials * executor.mean_seconds / (workers * executor.now)
    print(f"{workers} workers, {trials} trials of about {seconds:g} s: {share:.1%} of the time training", flush=True)


def measure_selection(trials: int, seeds: int) -> None:
    """Print the hypervolume that Optuna's TPE and one that learns from a tenth of the trials reach."""
    for name, evaluate in FUNCTIONS.items():
        reached = [
            [reach_hypervolume(evaluate, seed, trials, most) for most in (None, trials // 10)] for seed in range(seeds)
        ]
        for seed, (all_, tenth) in enumerate(reached):
            print(f"{name}, seed {seed}, {trials} trials: Optuna's {all_:.4f}, a tenth {tenth:.4f}", flush=True)
        medians = [statistics.median(each) for each in zip(*reached, strict=True)]
        better = sum(tenth > all_ for all_, tenth in reached)
        print(f"{name}: medians {medians[0]:.4f} and {medians[1]:.4f}, a tenth better in {better} of {seeds}")


def reach_hypervolume(
    evaluate: Callable[[optuna.Trial], list[float]], seed: int, trials: int, most: int | None
) -> float:
    """Return the hypervolume that TPE reaches: Optuna's, or ours which learns from so many good and bad trials."""
    study = optuna.create_study(directions=["minimize", "minimize"])
    for number in range(trials):
        options: dict[str, Any] = {"seed": seed * 1_000_000 + number, "constant_liar": True}
        study.sampler = optuna.samplers.TPESampler(**options) if most is None else TPE(most, **options)
        trial = study.ask()
        study.tell(trial, evaluate(trial))
    points = [trial.values for trial in study.get_trials(deepcopy=False)]
    return hypervolume(points, (1.0, 1.0), reference=(1.1, 7.0), ideal=(0.0, 0.0))


def evaluate_ripples(trial: optuna.Trial) -> list[float]:
    """Return the values of a function like ZDT1 with ripples, of four parameters."""
    first, *others = (trial.suggest_float(f"x{index}", 0, 1) for index in range(4))
    ripples = [abs(x - 0.3) + 0.1 * (1 - math.cos(12 * (x - 0.3))) for x in others]
    height = 1 + 9 * statistics.fmean(ripples)
    return [first, height * (1 - math.sqrt(first / height))]


def evaluate_mixed(trial: optuna.Trial) -> list[float]:
    """Return the values of a function with a concave front in pieces, of six parameters of three kinds."""
    first = trial.suggest_float("first", 0, 1)
    kind = trial.suggest_categorical("kind", ["a", "b", "c", "d"])
    number = trial.suggest_int("number", 1, 64)
    rate, decay = (trial.suggest_float(name, 1e-4, 1, log=True) for name in ("rate", "decay"))
    share = trial.suggest_float("share", 0, 1)
    # The best kind, number and rate change along the front.
    off = abs("abcd".index(kind) - 3 * first) / 3 + abs(number / 64 - first) + abs(math.log10(rate) + 1 + 2 * first) / 4
    off += abs(math.log10(decay) + 3) / 4 + (share - 0.5 * first) ** 2
    height = 1 + 2 * off
    return [first, height * (1.2 - (first / height) ** 2 - 0.2 * (first / height) * math.sin(15 * first))]


FUNCTIONS = {"ripples": evaluate_ripples, "mixed": evaluate_mixed}


class SimulatedExecutor:
    """An executor whose trainings pass in simulated time, in which the owner's work takes as long as it really does.

    Args:
        workers: number of trainings at the same time.
        seconds: mean of a training, which takes between a half and one and a half of it.

    Attributes:
        now: simulated seconds since the begin.
    """

    def __init__(self, workers: int, seconds: float) -> None:
        self.workers = self.ready = workers
        self._rng, self._seconds = np.random.default_rng(0), seconds
        self._ends: list[tuple[float, int, TrialConfig]] = []
        self._lengths: list[float] = []
        self.now, self._real = 0.0, time.perf_counter()

    @property
    def mean_seconds(self) -> float:
        return statistics.fmean(self._lengths)

    def description(self) -> Mapping[str, Any]:
        return {"device": "none", "threads": 1}

    def start(self, trial: int, config: TrialConfig, on_epoch: OnEpoch) -> None:
        self._pass_real_time()
        self._lengths.append(self._seconds * self._rng.uniform(0.5, 1.5))
        heapq.heappush(self._ends, (self.now + self._lengths[-1], trial, config))

    def wait(self, seconds: float) -> Sequence[TrainingEnd]:
        self._pass_real_time()
        if not self._ends:
            return []
        end, trial, config = heapq.heappop(self._ends)
        self.now = max(self.now, end)
        return [TrainingEnd(trial, result_of(config))]

    def _pass_real_time(self) -> None:
        real = time.perf_counter()
        self.now, self._real = self.now + real - self._real, real


class _Never:
    requested = False


def definition() -> StudyDefinition:
    return StudyDefinition.from_mapping({"study": {"name": "scale"}, "space": SPACE, "fixed": {"epochs": 1}})


@contextmanager
def new_study(in_memory: bool = False) -> Iterator[optuna.Study]:
    """Make an empty study in an SQLite file or in memory, with its sampler."""
    with tempfile.TemporaryDirectory() as folder:
        writer = open_writer(resolve_url(Path(folder) / "scale.db"), create=True)
        storage = OwnerStorage(InMemoryStorage() if in_memory else writer)
        study = optuna.create_study(storage=storage, directions=["minimize", "maximize"])
        study.sampler = InitialTrialsSampler(make_sampler(definition()), [])
        yield study
        writer.engine.dispose()


def fill(study: optuna.Study, number: int) -> None:
    """Store trials of random configurations, as a run stores them."""
    sampled = optuna.create_study(directions=study.directions, sampler=optuna.samplers.RandomSampler(seed=0))
    space = Space(definition())
    for _ in range(number):
        trial = sampled.ask()
        config = space.sample(trial)
        result = result_of(config)
        study.add_trial(
            create_trial(
                params=trial.params,
                distributions=trial.distributions,
                values=[result.metrics["rmse"], result.metrics["top_100"]],
                user_attrs={
                    attributes.CONFIG: config.model_dump(),
                    attributes.CURVE: [asdict(epoch) for epoch in result.curve],
                    attributes.METRICS: dict(result.metrics),
                },
            )
        )


def result_of(config: TrialConfig) -> TrialResult:
    metrics = metrics_of(config, 1)
    return TrialResult(metrics, (EpochMetrics(1, metrics, {"rating": 1.0}, 1.0),), 1, 10, {"train": 1.0})


def run(study: optuna.Study, executor: Executor, trials: int) -> None:
    """Run a number of trials."""

    def observe(_end: TrialEnd) -> None:
        pass

    run_trials(study, TrialFactory(study, definition(), _Never()), executor, Budget(0, trials), lambda: False, observe)


if __name__ == "__main__":
    main()

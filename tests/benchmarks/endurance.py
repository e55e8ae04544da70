"""Measure memory and time of a trial, its storage and its sampling, at trial 10 and at trial 1,000 of a long study.

    python -m tests.benchmarks.endurance [--trials 1000] [--only storage]

Prints a line per part. The trainer's trials are short (one epoch of the quick study), so that 1,000 take minutes; the
storage's take no time, and between those that are measured copies are added, so that this part takes a minute.
"""

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import psutil
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import event

from mtsearch.data import load, make_split
from mtsearch.executors import SerialExecutor
from mtsearch.models import Device, JointTrainer
from mtsearch.models.trainer import EpochMetrics, TrialResult
from mtsearch.search.attributes import counts
from mtsearch.search.run import Budget, run_trials
from mtsearch.search.samplers import make_sampler
from mtsearch.search.storage import open_writer
from mtsearch.search.study import begin_or_resume, create_study
from mtsearch.search.trial import TrialFactory
from mtsearch.signals import catch_termination
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import StudyDefinition

MIB = 2**20
WINDOW = 20


def main() -> None:
    """Measure both trainers, then the storage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--only", choices=["training", "storage"], help="this part alone")
    options = parser.parse_args()
    quick = StudyDefinition.load("ml-100k-quick")
    if options.only != "storage":
        both_trainers(quick, options.trials)
    if options.only != "training":
        storage(quick, options.trials)


def both_trainers(quick: StudyDefinition, trials: int) -> None:
    """Measure a trainer whose trials share a few graphs, and one whose trials each have their own."""
    split = make_split(load(quick.data), quick.split)
    trainer = JointTrainer(split, Device.default())
    sizes = (16, 32, 64, 128)
    training("4 shapes", trainer, lambda number: sizes[number % len(sizes)], trials)
    training("a shape per trial", trainer, lambda number: 8 + number % 200, trials)


def training(name: str, trainer: JointTrainer, size: Callable[[int], int], trials: int) -> None:
    """Return the seconds of one configuration, measured early and late, and the growth of the process in between."""
    process = psutil.Process()
    probe = TrialConfig(retrieval_weight=1e-3, epochs=1)
    early: list[float] = []
    grown_from = 0
    for number in range(trials):
        trainer.train(probe.model_copy(update={"embedding_size": size(number), "seed": number}), _go_on)
        if number == 10:
            early = _seconds(trainer, probe)
        if number == trials // 10:
            grown_from = process.memory_info().rss
    growth = (process.memory_info().rss - grown_from) / MIB
    ratio = statistics.median(_seconds(trainer, probe)) / statistics.median(early)
    print(f"{name}: a trial takes {ratio:.3f}x at trial {trials} of what it took at trial 10; "
          f"resident memory grew by {growth:.0f} MiB from trial {trials // 10} on", flush=True)  # fmt: skip


def _seconds(trainer: JointTrainer, probe: TrialConfig) -> list[float]:
    trainer.train(probe, _go_on)  # makes and traces the model, where it is no longer there
    results = [trainer.train(probe, _go_on) for _ in range(WINDOW)]
    return [result.seconds["train"] + result.seconds["evaluate"] for result in results]


def storage(definition: StudyDefinition, trials: int) -> None:
    """Return the milliseconds of a trial beside its training, and of Optuna's own ask on the same trials in memory."""
    with tempfile.TemporaryDirectory() as folder, catch_termination() as interrupt:
        writer = open_writer(f"sqlite:///{Path(folder) / 'a.db'}", create=True)
        create_study(writer, definition)
        study = begin_or_resume(writer, definition, {"data": {}, "split": {}, "trainer": {}}, dict, trials=trials)
        factory = TrialFactory(study, definition, interrupt)
        split = make_split(load(definition.data), definition.split)
        executor = SerialExecutor(split, lambda _split, _threads: (_Instant(), {}), definition.study.repeats)

        def run_one() -> None:
            run_trials(study, factory, executor, Budget(0, 1), lambda: False, lambda _: None)

        sampler = make_sampler(definition)
        for size in (WINDOW, trials * 3 // 10, trials):
            _fill(study, size - WINDOW)
            with _counted(writer) as done:
                spent = [_timed(run_one) for _ in range(WINDOW)]
            asked, own = (
                statistics.median(_ask_seconds(study, each)) for each in (sampler, optuna.samplers.TPESampler(seed=1))
            )
            whole = statistics.median(spent)
            print(f"storage, sampling and bookkeeping at {size} trials: {1e3 * whole:.1f} ms per trial, "
                  f"{1e3 * (whole - asked):.1f} ms of it not sampling, in "
                  f"{done['commit'] / WINDOW:.1f} transactions and {done['statement'] / WINDOW:.0f} statements; "
                  f"the sampler takes {asked / own:.2f}x of Optuna's in-memory ask ({1e3 * own:.1f} ms)",
                  flush=True)  # fmt: skip
            assert sum(map(counts, study.get_trials(deepcopy=False))) == size


def _fill(study: optuna.Study, size: int) -> None:
    """Copy the study's last trial with drawn parameters and values, up to a number of trials."""
    trials = study.get_trials(deepcopy=False)
    random = optuna.create_study(directions=study.directions, sampler=optuna.samplers.RandomSampler(seed=1))
    for number in range(len(trials), size):
        drawn = random.ask(trials[-1].distributions)
        rmse = 1 + drawn.params.get("learning_rate", 0.1) + 0.01 * (number % 7)
        study.add_trial(optuna.trial.create_trial(
            values=[rmse, 1 / (1 + drawn.params.get("retrieval_weight", 1.0) + rmse)],
            params=drawn.params, distributions=drawn.distributions, user_attrs=trials[-1].user_attrs,
        ))  # fmt: skip


@contextmanager
def _counted(storage: BaseStorage) -> Iterator[Counter[str]]:
    """Count transactions and statements of a database inside the context."""
    assert isinstance(storage, RDBStorage)
    done: Counter[str] = Counter()
    counting = [("commit", lambda *_: done.update(["commit"])),
                ("before_cursor_execute", lambda *_: done.update(["statement"]))]  # fmt: skip
    for name, count in counting:
        event.listen(storage.engine, name, count)
    yield done
    for name, count in counting:
        event.remove(storage.engine, name, count)


def _ask_seconds(study: optuna.Study, sampler: optuna.samplers.BaseSampler) -> Iterator[float]:
    """Return the seconds of asking for all parameters in a copy of the study in memory."""
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    copy = optuna.create_study(directions=study.directions, sampler=sampler)
    copy.add_trials(finished)
    space = finished[-1].distributions
    for _ in range(WINDOW):
        yield _timed(lambda: copy.ask(space))


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class _Instant:
    """A trainer that takes no time."""

    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        """Return metrics that a sampler can learn from."""
        rmse = 1 + abs(config.learning_rate - 0.1)
        metrics = {"rmse": rmse, "top_100": 1 / (1 + config.retrieval_weight + rmse)}
        curve = tuple(EpochMetrics(epoch, metrics, {}, 0.0) for epoch in range(1, config.epochs + 1))
        on_epoch(curve[-1])
        return TrialResult(metrics, curve, len(curve), 1, {"train": 0.0, "evaluate": 0.0})


def _go_on(_: EpochMetrics) -> bool:
    return True


if __name__ == "__main__":
    main()

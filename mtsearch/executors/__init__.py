"""Executors, which run the trials of a study in this process or in several (`processes`), and worker resources."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import optuna

from mtsearch.data import Split
from mtsearch.host import free_memory, usable_cores, visible_gpus
from mtsearch.models.trainer import MakeTrainer
from mtsearch.search.ownership import watch_ownership
from mtsearch.search.run import POLL_SECONDS, Budget, Executor, Observer, RunPlan, require_counts
from mtsearch.search.trial import TrialRunner
from mtsearch.signals import Interrupt
from mtsearch.study_file.definition import StudyDefinition

Workers = int | Literal["auto"]

WORKER_BYTES = 900 << 20
"""Memory per worker: the peak on MovieLens 100K, 826 MiB (tests/benchmarks/speed.py), with a reserve of 9 %."""


@dataclass(frozen=True)
class WorkerResources:
    """The threads and the GPU that one worker uses.

    Attributes:
        threads: number of threads of its trainer.
        gpu: as CUDA_VISIBLE_DEVICES names it; None: the worker uses what TensorFlow finds.
    """

    threads: int
    gpu: str | None = None


def allocate(workers: Workers) -> list[WorkerResources]:
    """Divide the cores and GPUs of this machine among the workers; several workers may share a GPU.

    Args:
        workers: number of workers, one or more. `auto`: one worker per visible GPU; without a GPU, one worker with one
            thread per usable core, but not more than the free memory holds.

    Returns:
        The resources of each worker; a single worker gets all cores.

    Raises:
        DefinitionError: the number is out of its range.
    """
    require_counts(workers=None if workers == "auto" else workers)
    gpus = visible_gpus()
    count = workers if workers != "auto" else len(gpus) or _count_workers_that_fit()
    threads = max(1, usable_cores() // count)
    return [WorkerResources(threads, gpus[number % len(gpus)] if gpus else None) for number in range(count)]


def _count_workers_that_fit() -> int:
    """Return the number of workers for which the usable cores and the free memory suffice, at least one."""
    return max(1, min(usable_cores(), free_memory() // WORKER_BYTES))


@contextmanager
def open_executor(
    plan: RunPlan, split: Split, resources: list[WorkerResources], make_trainer: MakeTrainer
) -> Iterator[Executor]:
    """Open the executor of a run within the context: this process for one worker, else one process per worker.

    Args:
        plan: of the run.
        split: of the study's data.
        resources: of each worker, from `allocate`.
        make_trainer: makes a trainer in the process that trains.
    """
    if len(resources) == 1:
        yield SerialExecutor(plan.definition, split, make_trainer)
        return
    from mtsearch.executors.processes import ProcessExecutor, WorkerSpec

    with ProcessExecutor(WorkerSpec(plan.definition, plan.url, split.fingerprint, make_trainer), resources) as executor:
        yield executor


class SerialExecutor:
    """An executor that runs one trial after the other in this process.

    Args:
        definition: of the study.
        split: of its data.
        make_trainer: makes the trainer, at once.
    """

    workers = 1

    def __init__(self, definition: StudyDefinition, split: Split, make_trainer: MakeTrainer) -> None:
        trainer, self._description = make_trainer(split, None)
        self._runner = TrialRunner(definition, trainer)

    def description(self) -> Mapping[str, Any]:
        """Return the trainer's description of itself for the provenance, see `Executor`."""
        return self._description

    def run(
        self, study: optuna.Study, budget: Budget, deadline: float, observer: Observer, interrupt: Interrupt
    ) -> None:
        """Run one trial after the other until the budget is spent, time is over, or an interrupt is requested."""
        with watch_ownership(study):
            while not interrupt.requested and time.monotonic() < deadline and budget.left > 0:
                # Other runs have begun the last trials. Wait: these may fail, and then this run takes over.
                if budget.free() <= 0:
                    time.sleep(POLL_SECONDS)
                    continue
                end = self._runner.run(study, interrupt, budget.until)
                budget.spend(end)
                observer(end)

"""Executors train the configurations of a study's owner: in this process, or in workers that only train.

They have the interface `mtsearch.search.run.Executor`, and know nothing of Optuna or the storage.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from mtsearch.data import Split
from mtsearch.errors import DefinitionError, MachineError
from mtsearch.host import free_memory, usable_cores, visible_gpus
from mtsearch.models.trainer import EpochMetrics, MakeTrainer, RepeatedTrainer, TrainingEnd
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.sections import require_counts
from mtsearch.text import quote

Workers = int | Literal["auto"]

OnEpoch = Callable[[EpochMetrics], bool]

WORKER_BYTES = 900 << 20
"""Memory per worker: the peak on MovieLens 100K, 826 MiB (tests/benchmarks/speed.py), with a reserve of 9 %."""

LOCAL = "local"
"""The address of a Ray cluster that is started on this machine for one run."""


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


@dataclass(frozen=True)
class RayOptions:
    """The workers of a run on a Ray cluster.

    Attributes:
        address: as `ray.init` takes it; `LOCAL` starts a cluster on this machine.
        workers: number of actors; `auto`: as many as the cluster has room for when the run begins.
        cpus: cores of each, which are the threads of its trainer.
        gpus: share of a GPU, or number of GPUs, of each.
    """

    address: str = LOCAL
    workers: Workers = "auto"
    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        require_counts(workers=None if self.workers == "auto" else self.workers)
        if not (math.isfinite(self.cpus) and self.cpus > 0 and math.isfinite(self.gpus) and self.gpus >= 0):
            raise DefinitionError(
                f"a worker with {self.cpus:g} CPUs and {self.gpus:g} GPUs cannot train",
                "give --cpus-per-worker above 0, and --gpus-per-worker of 0 or more",
            )
        if not re.fullmatch(r"auto|local|(ray://)?[^:/\s]+:\d+|ray://\S+", self.address):
            raise DefinitionError(
                f"{quote(self.address)} is not the address of a Ray cluster",
                "give HOST:PORT, or auto for the cluster of this machine; put the study file before --ray",
            )


Resources = list[WorkerResources] | RayOptions
"""What trains: workers of this machine, or those of a Ray cluster."""


class SerialExecutor:
    """An executor that trains in this process.

    Args:
        split: of the study's data.
        make_trainer: makes the trainer, at once.
        repeats: number of seeds of each configuration.
    """

    workers = ready = 1

    def __init__(self, split: Split, make_trainer: MakeTrainer, repeats: int) -> None:
        trainer, self._description = make_trainer(split, None)
        self._trainer = RepeatedTrainer(trainer, repeats)
        self._started: tuple[int, TrialConfig, OnEpoch] | None = None

    def description(self) -> Mapping[str, Any]:
        """Return the trainer's description of itself for the provenance, see `Executor`."""
        return self._description

    def start(self, trial: int, config: TrialConfig, on_epoch: OnEpoch) -> None:
        """Keep a configuration that `wait` will train."""
        self._started = trial, config, on_epoch

    def wait(self, seconds: float) -> list[TrainingEnd]:
        """Train what was started to its end; without it wait for a number of seconds."""
        if self._started is None:
            time.sleep(seconds)
            return []
        (trial, config, on_epoch), self._started = self._started, None
        of_owner: list[Exception] = []

        def heard(epoch: EpochMetrics) -> bool:
            try:
                return on_epoch(epoch)
            except Exception as error:
                of_owner.append(error)
                raise

        try:
            return [TrainingEnd(trial, self._trainer.train(config, heard))]
        except Exception as error:
            if of_owner:  # such as a storage that cannot be written: the training is not to blame
                raise
            return [TrainingEnd(trial, error=error)]


@contextmanager
def open_executor(split: Split, resources: Resources, make_trainer: MakeTrainer, repeats: int) -> Iterator[Any]:
    """Open the executor of a run within the context: this process for one worker, more processes, or a Ray cluster.

    Args:
        split: of the study's data.
        resources: of each worker, from `allocate`; or how to train on a Ray cluster.
        make_trainer: makes a trainer in the process that trains.
        repeats: number of seeds of each configuration.

    Raises:
        MachineError: Ray is not installed, or there is no such cluster.
    """
    if isinstance(resources, RayOptions):
        if resources.address == LOCAL and "ray" not in sys.modules:
            # NOTE: Ray listens on the network, and runs what it is sent. It reads these when it is imported. A token
            # that it makes itself stays in the user's home, and the next `ray start` asks for it.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        try:
            from mtsearch.executors.ray import RayExecutor
        except ImportError as error:
            raise MachineError(f"--ray needs Ray: {error}", "pip install 'mtsearch[ray]'") from error
        with RayExecutor(split, resources, make_trainer, repeats) as on_ray:
            yield on_ray
    elif len(resources) == 1:
        yield SerialExecutor(split, make_trainer, repeats)
    else:
        from mtsearch.executors.processes import ProcessExecutor

        with ProcessExecutor(split, resources, make_trainer, repeats) as in_processes:
            yield in_processes

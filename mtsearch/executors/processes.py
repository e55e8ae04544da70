"""Train in several spawned processes of this machine, which share the arrays of the split."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import Any

from mtsearch.data import Split
from mtsearch.errors import MachineError
from mtsearch.executors import WorkerResources
from mtsearch.executors.workers import Worker, WorkerPool, run_worker
from mtsearch.models.trainer import MakeTrainer
from mtsearch.signals import mask_signals
from mtsearch.study_file.config import TrialConfig

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_UNCAUGHT = 1
"""Exit code of a Python process that an exception ended; a worker sends its exceptions to the owner instead."""
_EXIT_SECONDS = 1.0


class ProcessExecutor(WorkerPool):
    """An executor that trains in several spawned processes.

    Args:
        split: of the study's data.
        resources: of each worker.
        make_trainer: makes the trainer in a worker; a function of a module, so that it can be pickled.
        repeats: number of seeds of each configuration.
    """

    def __init__(
        self, split: Split, resources: Sequence[WorkerResources], make_trainer: MakeTrainer, repeats: int
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mtsearch-")
        folder = Path(self._folder.name)
        _store_split(split, folder)
        self._make_worker = partial(_Process, folder, make_trainer, repeats)
        super().__init__([self._make_worker(each) for each in resources])

    def __exit__(self, type_: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        super().__exit__(type_, error, traceback)
        self._folder.cleanup()

    def _listen(self, seconds: float) -> Iterator[tuple[Worker, object]]:
        workers: dict[Any, _Process] = {each.pipe: each for each in self._workers if isinstance(each, _Process)}
        for pipe in wait(list(workers), timeout=seconds):
            try:
                yield workers[pipe], workers[pipe].pipe.recv()
            except (EOFError, OSError):
                yield workers[pipe], EOFError()

    def _begin_again(self, dead: Worker, idle_deaths: int, any_began: bool) -> Worker:
        assert isinstance(dead, _Process)
        if not any_began and dead.exit_code == _UNCAUGHT:
            raise MachineError(
                "a worker process could not start; its error message is printed above",
                'if a script starts the workers, put this under `if __name__ == "__main__":`',
            )
        return self._make_worker(dead.resources, idle_deaths)


class _Process(Worker):
    """A worker in a process of its own."""

    def __init__(
        self, split: Path, make_trainer: MakeTrainer, repeats: int, resources: WorkerResources, idle_deaths: int = 0
    ) -> None:
        super().__init__(idle_deaths)
        # NOTE: spawned, never forked: TensorFlow's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.pipe, workers_end = context.Pipe()
        self.resources = resources
        work = make_trainer, split, repeats, resources.threads, workers_end
        self._process = context.Process(target=_work, args=work, name="mtsearch worker", daemon=True)
        # NOTE: multiprocessing starts another process with its first child, and then lifts the mask.
        resource_tracker.ensure_running()
        # The child inherits both: only the owner acts on a signal to the whole group, and TensorFlow, whenever it is
        # imported, sees only this worker's GPU.
        with mask_signals(), _only_gpu(resources.gpu):
            self._process.start()
        workers_end.close()

    @property
    def exit_code(self) -> int | None:
        """The exit code of the process; None while it lives."""
        return self._process.exitcode

    def send(self, message: TrialConfig | bool | None) -> None:
        with suppress(OSError):  # the process has ended: the next message read is EOFError
            self.pipe.send(message)

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        if not self.pipe.closed:
            self._process.join(timeout=_EXIT_SECONDS if self.trial is None else 0)
            self._process.kill()
            self._process.join()
            self.pipe.close()


@contextmanager
def _only_gpu(gpu: str | None) -> Iterator[None]:
    """Let a process that starts within the context see only this GPU; None: all that this process sees."""
    before = os.environ.get(_VISIBLE)
    if gpu is not None:
        os.environ[_VISIBLE] = gpu
    try:
        yield
    finally:
        if before is not None:
            os.environ[_VISIBLE] = before
        elif gpu is not None:
            del os.environ[_VISIBLE]


def _work(make_trainer: MakeTrainer, split: Path, repeats: int, threads: int, pipe: Connection) -> None:
    """Run the worker; the body of its process."""
    remove = partial(rmtree, split, ignore_errors=True)  # which an owner that was killed has left behind
    run_worker(make_trainer, partial(_load_split, split), repeats, threads, _PipeChannel(pipe), remove)
    owner = multiprocessing.parent_process()
    if owner is not None and not owner.is_alive():
        remove()


class _PipeChannel:
    """The pipe to the owner, into which two threads send."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()
        self.receive = pipe.recv

    def send(self, message: Any) -> None:
        with self._lock:
            self._pipe.send(message)


def _store_split(split: Split, folder: Path) -> None:
    """Store a split for `_load_split`, each of its arrays in a file."""
    buffers: list[pickle.PickleBuffer] = []
    (folder / "split").write_bytes(pickle.dumps(split, protocol=5, buffer_callback=buffers.append))
    for number, buffer in enumerate(buffers):
        (folder / str(number)).write_bytes(buffer.raw())


def _load_split(folder: Path) -> Split:
    """Load a split that the owner has stored; its arrays of numbers are mapped, and shared by all workers."""
    buffers: list[mmap.mmap | bytes] = []
    for number in range(len(list(folder.iterdir())) - 1):
        with (folder / str(number)).open("rb") as file:
            is_empty = not os.fstat(file.fileno()).st_size  # which cannot be mapped
            buffers.append(b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    split: Split = pickle.loads((folder / "split").read_bytes(), buffers=buffers)
    return split

"""Train in actors of a Ray cluster, which places them, notices lost nodes, and shares the split by its object store."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from mtsearch.data import Split
from mtsearch.errors import MachineError
from mtsearch.executors import LOCAL, RayOptions
from mtsearch.executors.workers import Worker, WorkerPool, run_worker
from mtsearch.host import usable_cores
from mtsearch.models.trainer import MakeTrainer
from mtsearch.study_file.config import TrialConfig

# Ray reads these when it is imported: else it fills the terminal with what it does about lost nodes.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import RayError

_CONNECT_SECONDS = 10.0
_log = logging.getLogger("mtsearch")


class RayExecutor(WorkerPool):
    """An executor that trains in actors of a Ray cluster; leaving the context ends them.

    It joins the cluster that this process is connected to already, or the one of the address.

    Args:
        split: of the study's data.
        options: address, number and size of the workers.
        make_trainer: makes the trainer in a worker; a function of a module that the workers can import.
        repeats: number of seeds of each configuration.

    Raises:
        MachineError: there is no such cluster.
    """

    def __init__(self, split: Split, options: RayOptions, make_trainer: MakeTrainer, repeats: int) -> None:
        self._connected = not ray.is_initialized()
        if self._connected:
            _connect(options.address)
        _warn_of_no_room(options)
        self._split = ray.put(split)
        size = {"num_cpus": options.cpus, "num_gpus": options.gpus}
        threads = max(1, int(options.cpus))
        self._make_worker = partial(_Actor, size, make_trainer, self._split, repeats, threads)
        super().__init__([self._make_worker() for _ in range(_count_workers(options))])

    def __exit__(self, type_: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        super().__exit__(type_, error, traceback)
        if self._connected:
            ray.shutdown()

    def _listen(self, seconds: float) -> Iterator[tuple[Worker, object]]:
        workers = {each.message: each for each in self._workers if isinstance(each, _Actor)}
        pending = list(workers)
        arrived, _ = ray.wait(pending, timeout=seconds)
        if arrived:  # take all that have arrived by now
            arrived, _ = ray.wait(pending, num_returns=len(pending), timeout=0)
        for message in arrived:
            worker = workers[message]
            try:
                content = ray.get(message)
            except RayError as error:  # the actor has died, or its node is lost
                yield worker, EOFError(str(error))
                continue
            worker.listen()
            yield worker, content

    def _begin_again(self, dead: Worker, idle_deaths: int, any_began: bool) -> Worker:
        return self._make_worker(idle_deaths=idle_deaths)


class _Actor(Worker):
    """A worker in an actor, which Ray starts as soon as a node has room for it.

    Attributes:
        message: reference to its next message.
    """

    def __init__(self, size: dict[str, float], *work: Any, idle_deaths: int = 0) -> None:
        super().__init__(idle_deaths)
        # One call sends and one receives. An actor that Ray itself would start again has lost its training.
        self._actor = ray.remote(_Mailbox).options(**size, max_concurrency=2, max_restarts=0).remote(*work)
        self.listen()

    def listen(self) -> None:
        """Ask for the next message."""
        self.message = self._actor.next_message.remote()

    def send(self, message: TrialConfig | bool | None) -> None:
        self._actor.take.remote(message)

    def kill(self) -> None:
        ray.kill(self._actor)

    def end(self) -> None:
        ray.kill(self._actor)


class _Mailbox:
    """The actor: a worker in a thread, and the messages between it and its owner."""

    def __init__(self, make_trainer: MakeTrainer, split: Split, repeats: int, threads: int) -> None:
        self._to_worker: SimpleQueue[Any] = SimpleQueue()
        self._to_owner: SimpleQueue[Any] = SimpleQueue()
        self.send, self.receive = self._to_owner.put, self._to_worker.get
        work = make_trainer, lambda: split, repeats, threads, self
        threading.Thread(target=run_worker, args=work, name="mtsearch worker", daemon=True).start()

    def take(self, message: Any) -> None:
        """Take a message of the owner."""
        self._to_worker.put(message)

    def next_message(self) -> Any:
        """Return the worker's next message to the owner; wait for it."""
        return self._to_owner.get()


def _connect(address: str) -> None:
    """Join the cluster of an address, or start one on this machine.

    Raises:
        MachineError: there is no such cluster.
    """
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    on_termination = signal.getsignal(signal.SIGTERM)
    try:
        host, _, port = address.rpartition(":")
        if host and "/" not in host:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
        if address == LOCAL:
            ray.init(address="local", num_cpus=usable_cores(), include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (RayError, OSError, OverflowError, RuntimeError, ValueError) as error:  # RayError: a token is missing
        raise MachineError(
            f"cannot join the Ray cluster {address!r}: {' '.join(str(error).split())[:200].rstrip('.;')}",
            "start one with `ray start --head`, or leave the address out; of one with a token, set RAY_AUTH_MODE=token",
        ) from error
    finally:
        # Ray has set a handler that ends the process at once.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_termination)


def _warn_of_no_room(options: RayOptions) -> None:
    """Warn if no node could hold a worker even if it were idle; one that joins later may."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(each.get("CPU", 0) >= options.cpus and each.get("GPU", 0) >= options.gpus for each in nodes):
        _log.warning(
            "no node of the Ray cluster has %g CPUs and %g GPUs for a worker: waiting for one that joins",
            options.cpus,
            options.gpus,
        )


def _count_workers(options: RayOptions) -> int:
    """Return the number of workers: as asked for, or as many as the cluster has room for now."""
    if options.workers != "auto":
        return options.workers
    there = ray.cluster_resources()
    room = [there.get(name, 0) // need for name, need in (("CPU", options.cpus), ("GPU", options.gpus)) if need]
    return max(1, int(min(room, default=1)))

"""Workers and their owner, whatever lies between them: what a worker does, and a pool that keeps workers at work.

Owner and worker exchange messages. The worker sends the trainer's description once it is ready; then, for each
configuration, every epoch, after which it waits to hear whether to go on, and the end; and signs of life all the time.
`mtsearch.executors.processes` and `mtsearch.executors.ray` carry the messages.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

from mtsearch.data import Split
from mtsearch.errors import MachineError, MtsearchError
from mtsearch.executors import OnEpoch
from mtsearch.models.trainer import EpochMetrics, MakeTrainer, RepeatedTrainer, TrainingEnd, TrialResult
from mtsearch.study_file.config import TrialConfig

SIGN_SECONDS = 5.0
"""Time between two signs of life of a worker."""

SILENCE_SECONDS = 120.0
"""How long a worker may be without a sign of life before it is replaced, in seconds."""

_SIGN = "alive"
_IDLE_DEATHS = 5
_POLL_SECONDS = 0.5

_log = logging.getLogger("mtsearch")


class Worker(ABC):
    """A worker as its owner sees it.

    Args:
        idle_deaths: number of workers that died in this place without a training, since one of them ended one.

    Attributes:
        trial: number of the trial that it trains; None while it is idle.
        description: the trainer's description of itself; None until the worker has made its trainer.
        heard: True once it has sent anything: an actor that waits for room on its cluster has not.
        silence: seconds without a sign of life, since it was heard of.
        cause: reason for which it was killed; empty if it was not.
    """

    def __init__(self, idle_deaths: int = 0) -> None:
        self.idle_deaths = idle_deaths
        self.trial: int | None = None
        self.description: Mapping[str, Any] | None = None
        self.heard, self.silence = False, 0.0
        self.cause = ""
        self._on_epoch: OnEpoch = lambda _: False

    @abstractmethod
    def send(self, message: TrialConfig | bool | None) -> None:
        """Send a configuration, whether a training goes on, or None for the end; a dead worker raises no error."""

    @abstractmethod
    def kill(self) -> None:
        """End the worker at once."""

    @abstractmethod
    def end(self) -> None:
        """Wait for the end of a worker that has been told to end or is dead, and free what it holds."""

    def train(self, trial: int, config: TrialConfig, on_epoch: OnEpoch) -> None:
        """Begin a training."""
        self.trial, self._on_epoch = trial, on_epoch
        self.send(config)

    def take(self, message: object) -> TrainingEnd | None:
        """Take a message of the worker, and return the end of the training if it is one.

        Raises:
            Exception: the worker cannot make its trainer.
        """
        self.heard, self.silence = True, 0.0
        if isinstance(message, Mapping):
            self.description = message
        elif isinstance(message, EpochMetrics):
            self.send(self._on_epoch(message))
        elif isinstance(message, Exception) and self.trial is None:
            raise message
        elif isinstance(message, TrialResult | Exception):
            assert self.trial is not None
            trial, self.trial, self.idle_deaths = self.trial, None, 0
            return (
                TrainingEnd(trial, message) if isinstance(message, TrialResult) else TrainingEnd(trial, error=message)
            )
        return None


class WorkerPool(ABC):
    """An executor that keeps a number of workers at work, and replaces those that die; leaving the context ends them.

    It has the interface `mtsearch.search.run.Executor`.

    Args:
        workers: in any state.
    """

    def __init__(self, workers: list[Worker]) -> None:
        self._workers = workers
        self._any_began = False
        self._listened = time.monotonic()

    @abstractmethod
    def _listen(self, seconds: float) -> Iterator[tuple[Worker, object]]:
        """Yield the messages of workers, with EOFError as the message of one that died; wait for the first one."""

    @abstractmethod
    def _begin_again(self, dead: Worker, idle_deaths: int, any_began: bool) -> Worker:
        """Return a new worker in the place of a dead one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        for worker in self._workers:
            worker.send(None)
        for worker in self._workers:
            worker.end()

    @property
    def workers(self) -> int:
        """The number of trainings that run at the same time."""
        return len(self._workers)

    @property
    def ready(self) -> int:
        """The number of workers that have made their trainer."""
        return sum(worker.description is not None for worker in self._workers)

    def description(self) -> Mapping[str, Any]:
        """Return a trainer's description of itself; wait until the first worker has made one."""
        while True:
            for worker in self._workers:
                if worker.description is not None:
                    return worker.description
            self.wait(_POLL_SECONDS)

    def start(self, trial: int, config: TrialConfig, on_epoch: OnEpoch) -> None:
        """Give a configuration to a worker that is ready and idle, see `Executor`."""
        idle = next(each for each in self._workers if each.description is not None and each.trial is None)
        idle.train(trial, config, on_epoch)

    def wait(self, seconds: float) -> list[TrainingEnd]:
        """Take what the workers send, replace the dead ones, and return the trainings that have ended."""
        ends: list[TrainingEnd | None] = []
        for worker, message in self._listen(seconds):
            if isinstance(message, EOFError):
                ends.append(self._replace(worker, str(message)))
            else:
                ends.append(worker.take(message))
                self._any_began |= worker.description is not None
        self._kill_silent()
        return [end for end in ends if end is not None]

    def _kill_silent(self) -> None:
        """Kill the workers that have given no sign of life for too long; the next `wait` replaces them.

        Only time in which this process listened counts: its own sleep (Ctrl-Z, a laptop's lid) makes no worker silent.
        """
        now = time.monotonic()
        listened, self._listened = min(now - self._listened, SILENCE_SECONDS / 4), now
        for worker in self._workers:
            worker.silence += listened if worker.heard else 0.0
            if worker.silence > SILENCE_SECONDS and not worker.cause:
                worker.cause = f"no sign of life for {SILENCE_SECONDS:g} s"
                _log.warning("a worker shows no sign of life for %g s and is replaced", SILENCE_SECONDS)
                worker.kill()

    def _replace(self, worker: Worker, why: str) -> TrainingEnd | None:
        """Put a new worker in the place of one that died, and return the end of the training that was lost with it.

        Raises:
            MachineError: workers die again and again without having trained.
        """
        worker.end()
        lost = None if worker.trial is None else TrainingEnd(worker.trial, lost=worker.cause or "its worker died")
        # A configuration that kills its worker is tried a few times only. Deaths without one are counted here.
        idle_deaths = 0 if lost else worker.idle_deaths + 1
        if idle_deaths >= _IDLE_DEATHS:
            raise MachineError(
                f"{idle_deaths} workers in a row died without a trial to run" + (f": {why}" if why else ""),
                "find out what kills them (is there too little memory?), or run with --workers 1",
            )
        self._workers[self._workers.index(worker)] = self._begin_again(worker, idle_deaths, self._any_began)
        return lost


class Channel(Protocol):
    """The messages between a worker and its owner, as the worker sees them."""

    def send(self, message: Any) -> None:
        """Send a message.

        Raises:
            EOFError, OSError: the owner has ended.
        """

    def receive(self) -> Any:
        """Return the next message; None asks for the end.

        Raises:
            EOFError, OSError: the owner has ended.
        """


class _OwnerEndedError(Exception):
    """The owner has ended, or wants the worker to end."""


def run_worker(
    make_trainer: MakeTrainer,
    load_split: Callable[[], Split],
    repeats: int,
    threads: int,
    channel: Channel,
    on_orphaned: Callable[[], object] = lambda: None,
) -> None:
    """Train what the owner sends until the owner ends this worker or has ended; send it all errors.

    Args:
        make_trainer: makes the trainer.
        load_split: gives the split.
        repeats: number of seeds of each configuration.
        threads: number of threads of the trainer.
        channel: to the owner.
        on_orphaned: called if the process ends because the owner has ended.
    """
    threading.Thread(target=_show_life, args=(channel, on_orphaned), name="mtsearch signs of life", daemon=True).start()
    with suppress(EOFError, OSError, _OwnerEndedError):  # the owner has ended, and nothing is left to do
        try:
            trainer, description = make_trainer(load_split(), threads)
        except Exception as error:
            channel.send(_sendable(error))
            return
        channel.send(dict(description))
        repeated = RepeatedTrainer(trainer, repeats)
        while (config := channel.receive()) is not None:
            channel.send(_train(repeated, config, channel))


def _train(trainer: RepeatedTrainer, config: TrialConfig, channel: Channel) -> TrialResult | Exception:
    """Train a configuration, and return the result or the error that it raised."""

    def goes_on(epoch: EpochMetrics) -> bool:
        try:
            channel.send(epoch)
            answer = channel.receive()
        except (EOFError, OSError):
            answer = None
        if answer is None:
            raise _OwnerEndedError
        return bool(answer)

    try:
        return trainer.train(config, goes_on)
    except _OwnerEndedError:
        raise
    except Exception as error:
        return _sendable(error)


def _sendable(error: Exception) -> Exception:
    """Return an error that can be sent to the owner; of a bug the text of its traceback."""
    return error if isinstance(error, MtsearchError) else RuntimeError(f"a worker failed:\n{traceback.format_exc()}")


def _show_life(channel: Channel, on_orphaned: Callable[[], object]) -> None:
    """Send signs of life; end the process once the owner has ended, since nobody waits for the rest of the epoch."""
    while True:
        time.sleep(SIGN_SECONDS)
        try:
            channel.send(_SIGN)
        except (EOFError, OSError):
            on_orphaned()
            os._exit(0)

"""Several processes on one study: the parent owns the budget, a worker gets one ticket per trial."""

import multiprocessing
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

import optuna

from mtsearch.data import load, make_split
from mtsearch.definition import StudyDefinition
from mtsearch.errors import MachineError, MtsearchError
from mtsearch.machine import identity
from mtsearch.search.crew import Budget, MakeTrainer, Observer
from mtsearch.search.interrupts import Interrupt, signals_blocked
from mtsearch.search.retries import give_up_the_dead, give_up_trials_of
from mtsearch.search.runner import TrialEnd, TrialRunner, counting, end_of
from mtsearch.search.storage import open_writer, storage_errors
from mtsearch.search.study import join

_TICKET, _STOP, _END = "ticket", "stop", "end"
_IDLE_DEATHS = 5
_POLL_SECONDS = 0.5
_GOODBYE_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """What a worker needs to know; it crosses to another process by pickle.

    Attributes:
        definition: of the study, which exists by the time of the first ticket.
        url: of the storage.
        make_trainer: a function of a module.
        threads: of the worker's trainer.
    """

    definition: StudyDefinition
    url: str
    make_trainer: MakeTrainer
    threads: int


class WorkerPool:
    """Spawned workers, ready to run trials; leaving the context ends them.

    Args:
        job: of each.
        size: how many.
    """

    def __init__(self, job: Job, size: int) -> None:
        self._job = job
        self._idle_deaths = 0
        self._stopping = False
        # NOTE: spawned, never forked: TensorFlow's threads do not survive a fork.
        self._workers = [_Worker(job) for _ in range(size)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.end()

    def description(self) -> Mapping[str, Any]:
        """What the trainers say of themselves; waits until the first is made."""
        while not any(worker.ready for worker in self._workers):
            self._listen(None)
        return next(worker.description for worker in self._workers if worker.ready)

    def run(
        self, study: optuna.Study, budget: Budget, deadline: float, observer: Observer, interrupt: Interrupt
    ) -> None:
        """See `Crew.run`."""
        try:
            while self._go_on(study, budget, interrupt.requested or time.monotonic() > deadline):
                if interrupt.requested:
                    self._stopping = True
                    self._stop_trials()
                for end in self._listen(study):
                    budget.spend(end)
                    observer(replace(end, counting=counting(study)))
        except BaseException:
            for worker in self._busy():
                worker.end()
                give_up_trials_of(study, worker.identity, "interrupted", "the run ended")
            give_up_the_dead(study)
            raise

    def _go_on(self, study: optuna.Study, budget: Budget, last_ones: bool) -> bool:
        """Hand out the tickets that are left; False where none is left and nobody works."""
        tickets = 0 if last_ones else budget.left - len(self._busy())
        for worker in self._idle()[: max(tickets, 0)]:
            worker.begin_trial()
        return tickets > 0 or bool(self._busy())

    def _idle(self) -> list["_Worker"]:
        return [worker for worker in self._workers if worker.ready and not worker.busy]

    def _busy(self) -> list["_Worker"]:
        return [worker for worker in self._workers if worker.busy]

    def _stop_trials(self) -> None:
        for worker in self._busy():
            worker.stop_trial()

    def _listen(self, study: optuna.Study | None) -> list[TrialEnd]:
        """Take in what workers say, or that they are gone; returns the trials that have ended."""
        channels: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers}
        ends: list[TrialEnd] = []
        for channel in wait(list(channels), timeout=_POLL_SECONDS):
            worker = channels[channel]
            try:
                message = worker.receive()
            except (EOFError, OSError):
                ends += self._replace(worker, study)
                continue
            if isinstance(message, Exception):
                raise message
            if isinstance(message, TrialEnd):
                ends.append(message)
        return ends

    def _replace(self, worker: "_Worker", study: optuna.Study | None) -> list[TrialEnd]:
        """A worker has gone without a word: its trial is given up and queued again, another takes its place."""
        # Deaths in a trial are bounded by configuration, see `retries`; those without one would go on for ever.
        self._idle_deaths += not worker.busy
        worker.end()
        ends = []
        if study is not None:
            given_up = give_up_trials_of(study, worker.identity, "died", "its worker died")
            ends = [end_of(study, number, 0.0) for number in given_up]
        self._workers.remove(worker)
        if self._stopping:
            return ends
        if self._idle_deaths >= _IDLE_DEATHS:
            raise MachineError(
                f"{self._idle_deaths} workers died without a trial to run",
                "look for what kills them (memory?), or run with --workers 1",
            )
        self._workers.append(_Worker(self._job))
        return ends


class _Worker:
    """The parent's end of one worker."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        with signals_blocked():  # inherited: a signal to the whole group is for the parent alone to act on
            self._process = context.Process(target=_work, args=(job, theirs), name="mtsearch worker", daemon=True)
            self._process.start()
        theirs.close()
        self.identity = identity(self._process.pid or 0)
        self.ready = self.busy = self._stopped = False
        self.description: Mapping[str, Any] = {}

    def begin_trial(self) -> None:
        self.busy, self._stopped = True, False
        self._send(_TICKET)

    def stop_trial(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._send(_STOP)

    def receive(self) -> object:
        message = self.pipe.recv()
        if isinstance(message, TrialEnd):
            self.busy = False
        elif isinstance(message, Mapping):
            self.ready, self.description = True, message
        return message

    def dismiss(self) -> None:
        self._send(_END)

    def end(self) -> None:
        """Wait a moment for an idle worker to go by itself; it has nothing left to do."""
        if self.pipe.closed:
            return
        self._process.join(timeout=0 if self.busy else _GOODBYE_SECONDS)
        self._process.kill()
        self._process.join()
        self.busy = False
        self.pipe.close()

    def _send(self, message: str) -> None:
        with suppress(OSError):  # it is gone, which `receive` will tell
            self.pipe.send(message)


class _ParentsWish:
    """Hears from the parent, during a trial, that it shall stop."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._requested = False

    @property
    def requested(self) -> bool:
        try:
            while not self._requested and self._pipe.poll():
                self._requested = self._pipe.recv() != _TICKET
        except (EOFError, OSError):  # the parent is gone
            self._requested = True
        return self._requested


def _work(job: Job, parent: Connection) -> None:
    """A worker's life: make the trainer, say so, run a trial for each ticket until the parent ends it or is gone."""
    try:
        with storage_errors(job.url):
            _serve(job, parent)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone, and nothing is left to do
    except MtsearchError as error:
        parent.send(error)
    except Exception:
        parent.send(RuntimeError(f"a worker failed:\n{traceback.format_exc()}"))


def _serve(job: Job, parent: Connection) -> None:
    split = make_split(load(job.definition.data, job.definition.split), job.definition.split)
    trainer, description = job.make_trainer(split, job.threads)
    parent.send(description)
    runner = TrialRunner(job.definition, trainer)
    study: optuna.Study | None = None
    for _ticket in _tickets(parent):
        study = study or join(open_writer(job.url), job.definition)
        parent.send(runner.run(study, _ParentsWish(parent)))


def _tickets(parent: Connection) -> Iterator[str]:
    while (message := parent.recv()) != _END:
        if message == _TICKET:
            yield message

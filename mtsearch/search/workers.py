"""Several processes on one study: the parent owns the budget, a worker gets one ticket per trial."""

import logging
import multiprocessing
import os
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

import optuna

from mtsearch.data import load, make_split
from mtsearch.definition import StudyDefinition
from mtsearch.errors import MachineError, MtsearchError, StudyMismatch
from mtsearch.machine import identity
from mtsearch.search.crew import POLL_SECONDS, Budget, MakeTrainer, Observer
from mtsearch.search.interrupts import Interrupt, signals_masked
from mtsearch.search.liveness import Watch
from mtsearch.search.outages import outlast
from mtsearch.search.retries import give_up_the_dead, give_up_trials_of
from mtsearch.search.runner import TrialEnd, TrialRunner, counting, end_of
from mtsearch.search.seats import Seat
from mtsearch.search.storage import open_writer, storage_errors
from mtsearch.search.study import join

_STOP, _END = "stop", "end"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_IDLE_DEATHS = 5
_UNCAUGHT = 1
"""Exit code of a Python process that an exception ended: outside `_work`, which tells of its own."""
_GOODBYE_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What a worker needs to know; it crosses to another process by pickle.

    Attributes:
        definition: of the study, which exists by the time of the first ticket.
        url: of the storage.
        split: fingerprint of what it must find: a file may have been edited since the run began.
        make_trainer: a function of a module.
    """

    definition: StudyDefinition
    url: str = field(repr=False)  # it may hold a password
    split: str
    make_trainer: MakeTrainer


@dataclass(frozen=True)
class _Ticket:
    """Allows one trial; see `TrialRunner.run`."""

    until: int | None


class WorkerPool:
    """Spawned workers, ready to run trials; leaving the context ends them.

    Args:
        job: of each.
        seats: of each.
    """

    def __init__(self, job: Job, seats: Sequence[Seat]) -> None:
        self._job = job
        self._stopping = self._any_began = False
        # NOTE: spawned, never forked: TensorFlow's threads do not survive a fork.
        self._workers = [_Worker(job, seat) for seat in seats]

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
        watch, ends = Watch(study), list[TrialEnd]()

        def tell() -> None:
            for end in ends:
                observer(replace(end, counting=counting(study)))

        try:
            while self._go_on(study, budget, interrupt.requested or time.monotonic() > deadline):
                tell()  # NOTE: once the next trials are begun: a worker waited 8 ms for it
                if interrupt.requested:
                    self._stopping = True
                    self._stop_trials()
                self._replace_stuck(watch)
                ends = self._listen(study)
                for end in ends:
                    budget.spend(end)
            tell()
        except BaseException:
            for worker in self._busy():
                worker.end()
                give_up_trials_of(study, worker.identity, "interrupted", "the run ended")
            give_up_the_dead(study)
            raise

    def _go_on(self, study: optuna.Study, budget: Budget, last_ones: bool) -> bool:
        """Hand out the tickets that are left; False where none will be and nobody works."""
        if last_ones:
            return bool(self._busy())
        tickets = budget.free([worker.identity for worker in self._workers]) - len(self._busy())
        for worker in self._idle()[: max(tickets, 0)]:
            worker.begin_trial(_Ticket(budget.until))
        return bool(self._busy()) or budget.left > 0  # others may run the last ones, and fail to

    def _replace_stuck(self, watch: Watch) -> None:
        """End the workers whose trial was given up because it showed no sign of life, or that never began it."""
        busy = {(worker.identity["pid"], len(worker.told)): worker.identity for worker in self._busy()}
        silent = list(watch.look(busy).values())
        for worker in self._workers:
            if worker.identity in watch.overdue:
                _log.warning("worker %s has begun no trial for long: another takes its place", worker.identity["pid"])
            if worker.identity in silent or worker.identity in watch.overdue:
                worker.kill()

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
        for channel in wait(list(channels), timeout=POLL_SECONDS):
            worker = channels[channel]
            try:
                message = worker.receive()
            except (EOFError, OSError):
                ends += self._replace(worker, study)
                continue
            if isinstance(message, Exception):
                raise message
            self._any_began = True
            if isinstance(message, TrialEnd):
                ends.append(message)
        return ends

    def _replace(self, worker: "_Worker", study: optuna.Study | None) -> list[TrialEnd]:
        """A worker has gone without a word: its trial is given up and queued again, another takes its place."""
        worker.end()
        ends = []
        if study is not None:
            # Besides the one that it ran: one that ended before the worker could say so, or was given up by others.
            numbers = give_up_trials_of(study, worker.identity, "died", "its worker died")
            ends = [end_of(study, number, 0.0) for number in numbers if number not in worker.told]
        # Deaths in a trial are bounded by configuration, see `retries`; those without one would go on for ever.
        idle_deaths = 0 if ends else worker.idle_deaths + 1
        self._workers.remove(worker)
        if self._stopping:
            return ends
        if not self._any_began and worker.exit_code == _UNCAUGHT:
            raise MachineError(
                "a worker could not begin; what it said stands above",
                'a script that asks for workers does so under `if __name__ == "__main__":`',
            )
        if idle_deaths >= _IDLE_DEATHS:
            raise MachineError(
                f"{idle_deaths} workers in a row died without a trial to run",
                "look for what kills them (memory?), or run with --workers 1",
            )
        self._workers.append(_Worker(self._job, worker.seat, idle_deaths))
        return ends


class _Worker:
    """The parent's end of one worker; `idle_deaths` of its predecessors, since one of them ended a trial."""

    def __init__(self, job: Job, seat: Seat, idle_deaths: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.seat, self.idle_deaths = seat, idle_deaths
        self._process = context.Process(
            target=_work, args=(job, seat.threads, theirs), name="mtsearch worker", daemon=True
        )
        # NOTE: multiprocessing begins a process of its own with its first child, and then lifts the mask.
        resource_tracker.ensure_running()
        # Inherited: a signal to the whole group is for the parent alone to act on, and TensorFlow, whenever it is
        # imported, sees its GPU alone.
        with signals_masked(), _devices(seat.gpu):
            self._process.start()
        theirs.close()
        self.identity = identity(self._process.pid or 0)
        self.ready = self.busy = self._stopped = False
        self.told: set[int] = set()
        self.description: Mapping[str, Any] = {}

    @property
    def exit_code(self) -> int | None:
        """Of its process; None while it lives."""
        return self._process.exitcode

    def begin_trial(self, ticket: _Ticket) -> None:
        self.busy, self._stopped = True, False
        self._send(ticket)

    def stop_trial(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._send(_STOP)

    def receive(self) -> object:
        message = self.pipe.recv()
        if isinstance(message, TrialEnd):
            self.busy, self.idle_deaths = False, 0
            self.told.add(message.trial)
        elif isinstance(message, Mapping):
            self.ready, self.description = True, message
        return message

    def dismiss(self) -> None:
        self._send(_END)

    def kill(self) -> None:
        """End it at once, which `receive` will tell."""
        self._process.kill()

    def end(self) -> None:
        """Wait a moment for an idle worker to go by itself; it has nothing left to do."""
        if self.pipe.closed:
            return
        self._process.join(timeout=0 if self.busy else _GOODBYE_SECONDS)
        self._process.kill()
        self._process.join()
        self.busy = False
        self.pipe.close()

    def _send(self, message: _Ticket | str) -> None:
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
                self._requested = not isinstance(self._pipe.recv(), _Ticket)
        except (EOFError, OSError):  # the parent is gone
            self._requested = True
        return self._requested


@contextmanager
def _devices(gpu: str | None) -> Iterator[None]:
    """Within it, a process that begins sees this GPU alone; None: what this one sees."""
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


def _work(job: Job, threads: int, parent: Connection) -> None:
    """A worker's life: make the trainer, say so, run a trial for each ticket until the parent ends it or is gone."""
    try:
        with storage_errors(job.url):
            _serve(job, threads, parent)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone, and nothing is left to do
    except MtsearchError as error:
        _tell(parent, error)
    except Exception:
        _tell(parent, RuntimeError(f"a worker failed:\n{traceback.format_exc()}"))


def _serve(job: Job, threads: int, parent: Connection) -> None:
    split = make_split(load(job.definition.data, job.definition.split), job.definition.split)
    if split.fingerprint != job.split:
        changed = f"{job.definition.data.source} was changed while the study ran"
        raise StudyMismatch(changed, "undo that, and run it again")
    trainer, description = job.make_trainer(split, threads)
    parent.send(description)
    runner = TrialRunner(job.definition, trainer)
    study: optuna.Study | None = None
    for ticket in _tickets(parent):
        study = study or outlast(lambda: join(open_writer(job.url), job.definition))
        parent.send(runner.run(study, _ParentsWish(parent), ticket.until))


def _tickets(parent: Connection) -> Iterator[_Ticket]:
    while (message := parent.recv()) != _END:
        if isinstance(message, _Ticket):
            yield message


def _tell(parent: Connection, error: Exception) -> None:
    with suppress(OSError):  # it is gone
        parent.send(error)

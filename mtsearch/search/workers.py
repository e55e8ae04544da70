"""Several processes on one study: the parent owns the budget, a worker gets one ticket per trial."""

import multiprocessing
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

import optuna
from optuna.trial import TrialState

from mtsearch.data import load, make_split
from mtsearch.definition import StudyDefinition
from mtsearch.errors import MachineError, MtsearchError
from mtsearch.search import attributes
from mtsearch.search.crew import MakeTrainer, Observer
from mtsearch.search.interrupts import Interrupt, sigint_blocked
from mtsearch.search.runner import TrialEnd, TrialRunner, counting
from mtsearch.search.storage import open_writer
from mtsearch.search.study import join

_TICKET, _STOP, _END = "ticket", "stop", "end"
_DEATHS_IN_A_ROW = 5
_POLL_SECONDS = 0.5


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
        self._deaths = 0
        # NOTE: spawned, never forked: TensorFlow's threads do not survive a fork.
        self._workers = [_Worker(job) for _ in range(size)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        for worker in self._workers:
            worker.end()

    def description(self) -> Mapping[str, Any]:
        """What the trainers say of themselves; waits until the first is made."""
        while not any(worker.ready for worker in self._workers):
            self._listen(None, lambda _: None)
        return next(worker.description for worker in self._workers if worker.ready)

    def run(self, study: optuna.Study, until: int, deadline: float, observer: Observer, interrupt: Interrupt) -> None:
        """See `Crew.run`."""
        while True:
            stopping = interrupt.requested or time.monotonic() > deadline
            open_tickets = 0 if stopping else until - counting(study) - sum(w.busy for w in self._workers)
            for worker in self._idle()[: max(open_tickets, 0)]:
                worker.begin_trial()
            if interrupt.requested:
                self._stop_trials()
            if open_tickets <= 0 and not any(worker.busy for worker in self._workers):
                return
            self._listen(study, observer)

    def _idle(self) -> list["_Worker"]:
        return [worker for worker in self._workers if worker.ready and not worker.busy]

    def _stop_trials(self) -> None:
        for worker in self._workers:
            if worker.busy:
                worker.stop_trial()

    def _listen(self, study: optuna.Study | None, observer: Observer) -> None:
        """Take in what workers say, or that they are gone."""
        channels: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers}
        for channel in wait(list(channels), timeout=_POLL_SECONDS):
            worker = channels[channel]
            try:
                message = worker.receive()
            except (EOFError, OSError):
                self._replace(worker, study)
                continue
            if isinstance(message, MtsearchError):
                raise message
            if isinstance(message, TrialEnd) and study is not None:
                self._deaths = 0
                observer(replace(message, counting=counting(study)))

    def _replace(self, worker: "_Worker", study: optuna.Study | None) -> None:
        """A worker has gone without a word: its trial is given up and queued again, another takes its place."""
        worker.end()
        self._deaths += 1
        if study is not None:
            abandon_trials(study, worker.name)
        if self._deaths >= _DEATHS_IN_A_ROW:
            raise MachineError(
                f"{self._deaths} workers died in a row without finishing a trial",
                "look for what kills them (memory?), or run with --workers 1",
            )
        self._workers[self._workers.index(worker)] = _Worker(self._job)


class _Worker:
    """The parent's end of one worker."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        with sigint_blocked():  # inherited: Ctrl-C reaches the whole group, and the parent alone acts on it
            self._process = context.Process(target=_work, args=(job, theirs), name="mtsearch worker", daemon=True)
            self._process.start()
        theirs.close()
        self.name = attributes.worker_name(self._process.pid or 0)
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

    def end(self) -> None:
        self._send(_END)
        self._process.join(timeout=0 if self.busy else 2)
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def _send(self, message: str) -> None:
        with suppress(OSError):  # it is gone, which `receive` will tell
            self.pipe.send(message)


def abandon_trials(study: optuna.Study, worker: str) -> None:
    """End the running trials of a dead worker as FAIL and queue their parameters again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.user_attrs.get(attributes.WORKER) == worker:
            study._storage.set_trial_user_attr(
                trial._trial_id, attributes.REASON, attributes.reason("died", "worker died")
            )
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs={attributes.RETRY_OF: trial.number})


class _ParentsWish:
    """Hears from the parent, during a trial, that it shall stop."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._requested = False

    @property
    def requested(self) -> bool:
        while not self._requested and self._pipe.poll():
            self._requested = self._pipe.recv() != _TICKET
        return self._requested


def _work(job: Job, parent: Connection) -> None:
    """A worker's life: make the trainer, say so, run a trial for each ticket until the parent ends it or is gone."""
    # The parent is gone: nothing is left to do, and a trial that runs will be given up by the next parent.
    with suppress(EOFError, BrokenPipeError):
        _serve(job, parent)


def _serve(job: Job, parent: Connection) -> None:
    try:
        split = make_split(load(job.definition.data), job.definition.split)
        trainer, description = job.make_trainer(split, job.threads)
        parent.send(description)
        study: optuna.Study | None = None
        runner = TrialRunner(job.definition, trainer)
        for _ticket in _tickets(parent):
            study = study or join(open_writer(job.url), job.definition)
            parent.send(runner.run(study, _ParentsWish(parent)))
    except MtsearchError as error:
        parent.send(error)


def _tickets(parent: Connection) -> Iterator[str]:
    while (message := parent.recv()) != _END:
        if message == _TICKET:
            yield message

"""Run trials in several spawned processes: the parent owns the budget and sends each worker one request per trial.

Parent and worker talk through a pipe. The parent sends a `_TrialRequest`, `_STOP` (end the running trial) or `_END`
(end the process). A worker sends the trainer's description once it is ready, then a `TrialEnd` per trial, or an
exception.
"""

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
from mtsearch.errors import MachineError, MtsearchError, StudyMismatch
from mtsearch.executors import WorkerResources
from mtsearch.host import identity
from mtsearch.models.trainer import MakeTrainer
from mtsearch.search.ownership import OwnershipWatch, fail_dead_trials, fail_trials_of
from mtsearch.search.run import POLL_SECONDS, Budget, Observer
from mtsearch.search.storage import open_writer, storage_errors
from mtsearch.search.storage.retry import retry_transient
from mtsearch.search.study import load_study_to_run
from mtsearch.search.trial import TrialEnd, TrialRunner, count_trials, trial_end
from mtsearch.signals import Interrupt, mask_signals
from mtsearch.study_file.definition import StudyDefinition

_STOP, _END = "stop", "end"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_IDLE_DEATHS = 5
_UNCAUGHT = 1
"""Exit code of a Python process that an exception ended; `_run_worker` sends its exceptions to the parent instead."""
_EXIT_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerSpec:
    """The description of the work that every worker of a run gets; it is sent to other processes by pickle.

    Attributes:
        definition: of the study, which exists before the first trial is requested.
        url: of the storage.
        split: fingerprint of the split that the worker must find: a file may have been edited since the run began.
        make_trainer: makes the trainer; a function of a module, so that it can be pickled.
    """

    definition: StudyDefinition
    url: str = field(repr=False)  # it may hold a password
    split: str
    make_trainer: MakeTrainer


@dataclass(frozen=True)
class _TrialRequest:
    """The parent's request to run one trial; see `TrialRunner.run`."""

    until: int | None


class ProcessExecutor:
    """An executor that runs trials in several spawned processes, the workers; leaving the context ends them.

    Args:
        spec: the same for every worker.
        resources: of each worker.
    """

    def __init__(self, spec: WorkerSpec, resources: Sequence[WorkerResources]) -> None:
        self._spec = spec
        self._stopping = self._any_began = False
        # NOTE: spawned, never forked: TensorFlow's threads do not survive a fork.
        self._workers = [_Worker(spec, each) for each in resources]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.end()

    @property
    def workers(self) -> int:
        """The number of trials that run at the same time."""
        return len(self._workers)

    def description(self) -> Mapping[str, Any]:
        """Return a trainer's description of itself; wait until the first worker has made one."""
        while not any(worker.ready for worker in self._workers):
            self._listen(None)
        return next(worker.description for worker in self._workers if worker.ready)

    def run(
        self, study: optuna.Study, budget: Budget, deadline: float, observer: Observer, interrupt: Interrupt
    ) -> None:
        """Run trials in the workers until the budget is spent, the deadline passes, or an interrupt is requested."""
        watch, ends = OwnershipWatch(study), list[TrialEnd]()

        def observe_ends() -> None:
            for end in ends:
                observer(replace(end, counting=count_trials(study)))

        try:
            while self._begin_trials(budget, interrupt.requested or time.monotonic() > deadline):
                # NOTE: the next trials have begun already; called before, it made a worker wait for 8 ms.
                observe_ends()
                if interrupt.requested:
                    self._stopping = True
                    self._stop_trials()
                self._kill_stuck(watch)
                ends = self._listen(study)
                for end in ends:
                    budget.spend(end)
            observe_ends()
        except BaseException:
            # The run breaks off: end the busy workers and queue their trials again.
            for worker in self._busy():
                worker.end()
                fail_trials_of(study, worker.identity, "interrupted", "the run ended")
            fail_dead_trials(study)
            raise

    def _begin_trials(self, budget: Budget, ending: bool) -> bool:
        """Let idle workers begin the trials that the budget allows; return False once the run is over.

        Args:
            budget: of the run.
            ending: True if no further trial may begin.
        """
        if ending:
            return bool(self._busy())
        free = budget.free([worker.identity for worker in self._workers]) - len(self._busy())
        for worker in self._idle()[: max(free, 0)]:
            worker.begin_trial(_TrialRequest(budget.until))
        # With trials left and no busy worker, other runs have begun the last trials: wait, since these may fail.
        return bool(self._busy()) or budget.left > 0

    def _kill_stuck(self, watch: OwnershipWatch) -> None:
        """Kill the workers whose trial failed for lack of a heartbeat, and those that never began their trial."""
        busy = {(worker.identity["pid"], len(worker.reported)): worker.identity for worker in self._busy()}
        silent = list(watch.check(busy).values())
        for worker in self._workers:
            if worker.identity in watch.stuck:
                _log.warning(
                    "worker %s has not begun its trial for a long time and is replaced", worker.identity["pid"]
                )
            if worker.identity in silent or worker.identity in watch.stuck:
                worker.kill()

    def _idle(self) -> list["_Worker"]:
        return [worker for worker in self._workers if worker.ready and not worker.busy]

    def _busy(self) -> list["_Worker"]:
        return [worker for worker in self._workers if worker.busy]

    def _stop_trials(self) -> None:
        for worker in self._busy():
            worker.stop_trial()

    def _listen(self, study: optuna.Study | None) -> list[TrialEnd]:
        """Receive the workers' messages, replace dead workers, and return the ends of trials.

        Args:
            study: None before the first trial.
        """
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
        """Replace a worker that died, fail and requeue its trial, and return the ended trials it had not yet reported.

        Raises:
            MachineError: workers die again and again without a trial to run.
        """
        worker.end()
        ends = []
        if study is not None:
            # The trial that it ran, and one that ended before the worker could report it.
            numbers = fail_trials_of(study, worker.identity, "died", "its worker died")
            ends = [trial_end(study, number, 0.0) for number in numbers if number not in worker.reported]
        # A configuration that kills its worker is tried a few times only, see `fail_trial`. Deaths without a trial have
        # no such limit, and are counted here.
        idle_deaths = 0 if ends else worker.idle_deaths + 1
        self._workers.remove(worker)
        if self._stopping:
            return ends
        if not self._any_began and worker.exit_code == _UNCAUGHT:
            raise MachineError(
                "a worker process could not start; its error message is printed above",
                'if a script starts the workers, put this under `if __name__ == "__main__":`',
            )
        if idle_deaths >= _IDLE_DEATHS:
            raise MachineError(
                f"{idle_deaths} workers in a row died without a trial to run",
                "find out what kills them (is there too little memory?), or run with --workers 1",
            )
        self._workers.append(_Worker(self._spec, worker.resources, idle_deaths))
        return ends


class _Worker:
    """A worker process as the parent sees it, with its pipe and its state.

    Args:
        spec: of its work.
        resources: of the worker.
        idle_deaths: number of workers that died at this index without a trial, since one of them ended a trial.

    Attributes:
        identity: of the process, as trials store it.
        ready: True once the worker has made its trainer.
        busy: True while the worker runs a trial.
        reported: numbers of the trials whose end the worker has sent.
        description: the trainer's description of itself; empty until the worker is ready.
    """

    def __init__(self, spec: WorkerSpec, resources: WorkerResources, idle_deaths: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, workers_end = context.Pipe()
        self.resources, self.idle_deaths = resources, idle_deaths
        self._process = context.Process(
            target=_run_worker, args=(spec, resources.threads, workers_end), name="mtsearch worker", daemon=True
        )
        # NOTE: multiprocessing starts another process with its first child, and then lifts the mask.
        resource_tracker.ensure_running()
        # The child inherits both: only the parent acts on a signal to the whole group, and TensorFlow, whenever it is
        # imported, sees only this worker's GPU.
        with mask_signals(), _only_gpu(resources.gpu):
            self._process.start()
        workers_end.close()
        self.identity = identity(self._process.pid or 0)
        self.ready = self.busy = self._stopped = False
        self.reported: set[int] = set()
        self.description: Mapping[str, Any] = {}

    @property
    def exit_code(self) -> int | None:
        """The exit code of the process; None while it lives."""
        return self._process.exitcode

    def begin_trial(self, request: _TrialRequest) -> None:
        self.busy, self._stopped = True, False
        self._send(request)

    def stop_trial(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._send(_STOP)

    def receive(self) -> object:
        message = self.pipe.recv()
        if isinstance(message, TrialEnd):
            self.busy, self.idle_deaths = False, 0
            self.reported.add(message.trial)
        elif isinstance(message, Mapping):
            self.ready, self.description = True, message
        return message

    def dismiss(self) -> None:
        self._send(_END)

    def kill(self) -> None:
        """End the process at once; the next `receive` raises EOFError."""
        self._process.kill()

    def end(self) -> None:
        """End the process; an idle worker has a moment to end by itself."""
        if self.pipe.closed:
            return
        self._process.join(timeout=0 if self.busy else _EXIT_SECONDS)
        self._process.kill()
        self._process.join()
        self.busy = False
        self.pipe.close()

    def _send(self, message: _TrialRequest | str) -> None:
        with suppress(OSError):  # the process has ended: the next `receive` raises EOFError
            self.pipe.send(message)


class _ParentInterrupt:
    """An interrupt that the parent requests through the pipe during a trial."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._requested = False

    @property
    def requested(self) -> bool:
        """True once the parent has sent `_STOP` or `_END`, or has ended."""
        try:
            while not self._requested and self._pipe.poll():
                self._requested = not isinstance(self._pipe.recv(), _TrialRequest)
        except (EOFError, OSError):  # the parent is gone
            self._requested = True
        return self._requested


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


def _run_worker(spec: WorkerSpec, threads: int, parent: Connection) -> None:
    """Run a worker process until the parent ends it or has ended; send its errors to the parent.

    Args:
        spec: of its work.
        threads: number of threads of its trainer.
        parent: the pipe to the parent.
    """
    try:
        with storage_errors(spec.url):
            _run_requested_trials(spec, threads, parent)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has ended, and nothing is left to do
    except MtsearchError as error:
        _send_error(parent, error)
    except Exception:
        _send_error(parent, RuntimeError(f"a worker failed:\n{traceback.format_exc()}"))


def _run_requested_trials(spec: WorkerSpec, threads: int, parent: Connection) -> None:
    """Load the data, make the trainer, and run a trial for each of the parent's requests."""
    split = make_split(load(spec.definition.data, spec.definition.split), spec.definition.split)
    if split.fingerprint != spec.split:
        changed = f"{spec.definition.data.source} was changed while the study ran"
        raise StudyMismatch(changed, "undo the change, and run the study again")
    trainer, description = spec.make_trainer(split, threads)
    parent.send(description)
    runner = TrialRunner(spec.definition, trainer)
    study: optuna.Study | None = None
    for request in _receive_requests(parent):
        # The study exists by the first request, not before.
        study = study or retry_transient(lambda: load_study_to_run(open_writer(spec.url), spec.definition))
        parent.send(runner.run(study, _ParentInterrupt(parent), request.until))


def _receive_requests(parent: Connection) -> Iterator[_TrialRequest]:
    """Yield the parent's requests until the parent ends this worker; a late request to stop is ignored."""
    while (message := parent.recv()) != _END:
        if isinstance(message, _TrialRequest):
            yield message


def _send_error(parent: Connection, error: Exception) -> None:
    with suppress(OSError):  # the parent has ended
        parent.send(error)

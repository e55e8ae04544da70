"""Deferred signals in a process with threads, as every training process has."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from mtsearch.search.attributes import REASON
from mtsearch.search.storage import open_reader
from mtsearch.search.storage.url import resolve_url
from mtsearch.signals import catch_termination, defer_signals, exit_on_second_signal

BLOCKED = """
import hashlib, sys
from mtsearch import api
from mtsearch.signals import exit_on_second_signal
from tests.search.test_run import define
from tests.helpers.trainers import FormulaTrainer, make_factory

def block(_config, _epoch):  # for minutes, in C, as an epoch of a large study
    print("in", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2**31 - 1)

data, database = sys.argv[1:]
with exit_on_second_signal(130, "over"):
    api.run(define(data), 2, storage=database, make_trainer=make_factory(FormulaTrainer(block)))
"""


@pytest.fixture(autouse=True)
def another_thread() -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    yield
    over.set()
    thread.join()


def test_what_is_begun_is_done_before_a_signal_is_heard() -> None:
    done: list[int] = []

    def work() -> None:
        with defer_signals():
            os.kill(os.getpid(), signal.SIGINT)
            done.extend(range(1000))

    with pytest.raises(KeyboardInterrupt):
        work()
    assert len(done) == 1000
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_one_within_another_waits_for_the_outer_one() -> None:
    done = []
    with catch_termination() as interrupt:
        with defer_signals():
            with defer_signals():
                os.kill(os.getpid(), signal.SIGTERM)
            done.append(interrupt.requested)
        done.append(interrupt.requested)
    assert done == [False, True]


def test_two_signals_are_two() -> None:
    with pytest.raises(KeyboardInterrupt), catch_termination() as interrupt, defer_signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert interrupt.requested


def test_a_signal_that_the_system_handles_does_not_wait() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with defer_signals():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_no_thread_is_left_that_waits_for_a_second_signal() -> None:
    before = threading.active_count()
    with exit_on_second_signal(130, "over"):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.parametrize("inherited", [signal.SIG_IGN, signal.SIG_DFL])
def test_an_ignored_sigint_stays_ignored_by_what_begins(inherited: signal.Handlers) -> None:
    """An ignored SIGINT stays ignored, as in background programs of a script; so does SIGHUP with `nohup`."""
    said = "signal.getsignal(n) is signal.SIG_IGN for n in (signal.SIGINT, signal.SIGHUP)"
    lines = f"import signal; from mtsearch.signals import raise_on_termination as e; e(); print([{said}])"
    begin = f"import os, signal, sys; [signal.signal(n, signal.Handlers({int(inherited)})) for n in (2, 1)]; "
    begin += f"os.execv(sys.executable, [sys.executable, '-c', {lines!r}])"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", begin], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == f"{[inherited is signal.SIG_IGN] * 2}\n"


def test_a_signal_that_waited_is_heard_once() -> None:
    """A deferred signal is handled once, although the watcher counts the bytes of the system's handler."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    with reader, writer:
        reader.settimeout(0.2)
        before = signal.set_wakeup_fd(writer.fileno())
        try:
            with catch_termination() as interrupt:
                with defer_signals():
                    signal.raise_signal(signal.SIGINT)
                    assert not interrupt.requested
                assert interrupt.requested
        finally:
            signal.set_wakeup_fd(before)
        assert reader.recv(10) == bytes([signal.SIGINT])


@pytest.mark.slow
def test_the_second_signal_ends_a_process_that_python_cannot_reach(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    command = [sys.executable, "-c", BLOCKED, data, str(path)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said.splitlines()[-1]) == (130, "over")
    study = optuna.load_study(study_name="s", storage=open_reader(resolve_url(str(path))))
    trial, again = study.get_trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs[REASON] == {"kind": "interrupted", "text": "interrupted twice"}
    assert again.state == TrialState.WAITING

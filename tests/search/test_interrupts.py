"""Signals that wait: in a process with threads, as every one that trains is."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from mtsearch.search.interrupts import graceful, signals_deferred


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
        with signals_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            done.extend(range(1000))

    with pytest.raises(KeyboardInterrupt):
        work()
    assert len(done) == 1000
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_one_within_another_waits_for_the_outer_one() -> None:
    done = []
    with graceful() as interrupt:
        with signals_deferred():
            with signals_deferred():
                os.kill(os.getpid(), signal.SIGTERM)
            done.append(interrupt.requested)
        done.append(interrupt.requested)
    assert done == [False, True]


def test_two_signals_are_two() -> None:
    with pytest.raises(KeyboardInterrupt), graceful() as interrupt, signals_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert interrupt.requested

"""Ctrl-C as users expect it: once, the running trial ends and all is kept; twice, at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt(Protocol):
    """Whether somebody asked for the end."""

    @property
    def requested(self) -> bool:
        """True from then on."""


class _Signals:
    """An `Interrupt` by signal."""

    def __init__(self) -> None:
        self.requested = False

    def handle(self, _signal: int, _frame: FrameType | None) -> None:
        """A signal handler: the second signal ends at once."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def graceful() -> Iterator[Interrupt]:
    """Within it, SIGINT and SIGTERM set `requested`; outside the main thread, which gets no signals, nothing does."""
    interrupt = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    previous = {number: signal.signal(number, interrupt.handle) for number in _SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Within it, SIGINT and SIGTERM wait; they are heard at its end.

    NOTE: a mask would not do. It holds for one thread, the system hands the signal to another (TensorFlow's, a heart),
    and Python then runs the handler here all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    previous = {number: signal.signal(number, lambda sent, _: waiting.append(sent)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for sent in waiting:
            signal.raise_signal(sent)


@contextmanager
def signals_masked() -> Iterator[None]:
    """A process begun within it inherits that it never hears of SIGINT or SIGTERM."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

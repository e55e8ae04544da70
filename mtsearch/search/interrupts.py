"""Ctrl-C as users expect it: once, the running trial ends and all is kept; twice, at once."""

import signal
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
    """Within it, SIGINT and SIGTERM set `requested`; only the main thread may enter it."""
    interrupt = _Signals()
    previous = {number: signal.signal(number, interrupt.handle) for number in _SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Within it, Ctrl-C waits; a process begun within it never hears of one."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

"""Ctrl-C as users expect it: once, the running trial ends and all is kept; twice, at once."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from mtsearch.signals import SIGNALS

_SECONDS_TO_HEAR = 1.0
"""How long Python may take to act on a second signal; a call into TensorFlow that lasts longer is not waited for."""

_SECONDS_FOR_WISHES = 10.0

_heard_twice = threading.Event()
_last_wishes: list[Callable[[], object]] = []


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
            _heard_twice.set()
            raise KeyboardInterrupt
        self.requested = True


def end_by_exception() -> None:
    """From now on SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread, as SIGINT does by itself.

    SIGINT stays as it was inherited: a shell has it ignored by what a script runs in the background.
    """
    for number in set(SIGNALS) - {signal.SIGINT}:
        signal.signal(number, signal.default_int_handler)


def end_by_system() -> None:
    """From now on the signals that raised KeyboardInterrupt end the process at once and without a word."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.default_int_handler:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def graceful() -> Iterator[Interrupt]:
    """Within it, such a signal sets `requested`; outside the main thread, which gets none, nothing does."""
    interrupt = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    previous = {number: signal.signal(number, interrupt.handle) for number in SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def signals_masked() -> Iterator[None]:
    """A process begun within it inherits that it never hears of a signal that asks for the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def last_wish(wish: Callable[[], object]) -> Iterator[None]:
    """Within it, `wish` is called, by another thread, should `ended_by_second_signal` end the process."""
    _last_wishes.append(wish)
    try:
        yield
    finally:
        _last_wishes.remove(wish)


@contextmanager
def ended_by_second_signal(status: int, words: str) -> Iterator[None]:
    """Within it, a second SIGINT or SIGTERM ends the process even where Python cannot act on it; for a program's main.

    NOTE: Python acts on signals between two of its instructions. An epoch is a single call into TensorFlow, of 25
    million ratings one of minutes. The system's handler writes a byte for each signal all the same, which a thread
    reads.

    Args:
        status: of the process's exit.
        words: said on stderr.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    _heard_twice.clear()
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_end_at_second, args=(reader, status, words), name="mtsearch end", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        _heard_twice.set()  # Python has come this far: there is nobody to end
        writer.close()
        thread.join()  # else Python, at its end, would end the thread in the midst of its C code


def _end_at_second(reader: socket.socket, status: int, words: str) -> None:
    with reader:
        left = 2
        while left:
            sent = reader.recv(1)
            if not sent:
                return
            left -= sent[0] in SIGNALS
        if _heard_twice.wait(_SECONDS_TO_HEAR):
            return
    wishes = [threading.Thread(target=wish, daemon=True) for wish in _last_wishes]
    for thread in wishes:
        thread.start()
    for thread in wishes:
        thread.join(_SECONDS_FOR_WISHES)
    cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar hides it
    os.write(2, f"{cursor}{words}\n".encode())
    os._exit(status)

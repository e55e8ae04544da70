"""Ctrl-C as users expect it: once, the running trial ends and all is kept; twice, at once."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol


def _heard() -> tuple[signal.Signals, ...]:
    """The signals that ask for the end; that of a closed terminal too, unless `nohup` has it ignored."""
    always = signal.SIGINT, signal.SIGTERM
    return always if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*always, signal.SIGHUP)


_SIGNALS = _heard()

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
    for number in set(_SIGNALS) - {signal.SIGINT}:
        signal.signal(number, signal.default_int_handler)


@contextmanager
def graceful() -> Iterator[Interrupt]:
    """Within it, such a signal sets `requested`; outside the main thread, which gets none, nothing does."""
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
    """Within it, signals that ask for the end wait; they are heard at its end.

    NOTE: a mask would not do. It holds for one thread, the system hands the signal to another (TensorFlow's, a heart),
    and Python then runs the handler here all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    previous: dict[int, Any] = {n: signal.signal(n, lambda sent, _: waiting.append(sent)) for n in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for sent in waiting:
            handler = previous[sent]
            # NOTE: not raised anew where it need not be: `ended_by_second_signal` would count it a second time.
            if callable(handler):
                handler(sent, None)
            else:
                signal.raise_signal(sent)


@contextmanager
def signals_masked() -> Iterator[None]:
    """A process begun within it inherits that it never hears of a signal that asks for the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
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
    threading.Thread(target=_end_at_second, args=(reader, status, words), name="mtsearch end", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()


def _end_at_second(reader: socket.socket, status: int, words: str) -> None:
    with reader:
        left = 2
        while left:
            sent = reader.recv(1)
            if not sent:
                return
            left -= sent[0] in _SIGNALS
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

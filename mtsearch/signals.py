"""Handle Ctrl-C and termination: the first signal ends the running trial and keeps all, the second the process."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol


def _termination_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that ask the process to end; SIGHUP (a closed terminal) is left out if `nohup` ignores it."""
    always = signal.SIGINT, signal.SIGTERM
    return always if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*always, signal.SIGHUP)


SIGNALS = _termination_signals()
"""What asks for the end of the process."""


_SECONDS_TO_HEAR = 1.0
"""Time for Python to act on a second signal; the process does not wait longer for a call into TensorFlow."""

_SECONDS_FOR_CALLBACKS = 10.0

_interrupted_twice = threading.Event()
_exit_callbacks: list[Callable[[], object]] = []


class Interrupt(Protocol):
    """The state of a request to end the run."""

    @property
    def requested(self) -> bool:
        """True once somebody has asked for the end."""


class _SignalInterrupt:
    """An `Interrupt` that signals request."""

    def __init__(self) -> None:
        self.requested = False

    def handle(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle a signal: the first one requests the end, the second one raises KeyboardInterrupt at once."""
        if self.requested:
            _interrupted_twice.set()
            raise KeyboardInterrupt
        self.requested = True


def raise_on_termination() -> None:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread, as SIGINT does by default.

    SIGINT stays as it was inherited: a shell ignores it for programs that a script runs in the background.
    """
    for number in set(SIGNALS) - {signal.SIGINT}:
        signal.signal(number, signal.default_int_handler)


def end_by_system() -> None:
    """From now on the signals that raised KeyboardInterrupt end the process at once and without a word."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.default_int_handler:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def catch_termination() -> Iterator[Interrupt]:
    """Yield an interrupt that termination signals request; other threads than the main one yield one that never is."""
    interrupt = _SignalInterrupt()
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
def mask_signals() -> Iterator[None]:
    """A process begun within it inherits that it never hears of a signal that asks for the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def on_forced_exit(callback: Callable[[], object]) -> Iterator[None]:
    """Call `callback` in another thread if `exit_on_second_signal` ends the process during the block."""
    _exit_callbacks.append(callback)
    try:
        yield
    finally:
        _exit_callbacks.remove(callback)


@contextmanager
def exit_on_second_signal(status: int, words: str) -> Iterator[None]:
    """End the process at a second SIGINT or SIGTERM during the block, even if Python is busy; for a program's main.

    NOTE: Python acts on signals between two of its instructions. An epoch is a single call into TensorFlow, which
    takes minutes for 25 million ratings. The system's handler still writes a byte for each signal, which a thread
    reads.

    Args:
        status: exit status of the process.
        words: text for stderr.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # as `set_wakeup_fd` asks
    _interrupted_twice.clear()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=_exit_at_second, args=(reader, status, words), name="mtsearch end", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        _interrupted_twice.set()  # Python has come this far: there is nobody to end
        os.close(writer)
        thread.join()  # else Python, at its end, would end the thread in the midst of its C code


def _exit_at_second(reader: int, status: int, words: str) -> None:
    # Count the termination signals among the bytes that arrive; the writer is closed when the block ends.
    with os.fdopen(reader, "rb", buffering=0) as signals:
        left = 2
        while left:
            sent = signals.read(1)
            if not sent:
                return
            left -= sent[0] in SIGNALS
        if _interrupted_twice.wait(_SECONDS_TO_HEAR):
            return
    threads = [threading.Thread(target=callback, daemon=True) for callback in _exit_callbacks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_SECONDS_FOR_CALLBACKS)
    cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar hides it
    os.write(2, f"{cursor}{words}\n".encode())
    os._exit(status)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Let the signals that ask for the end wait until the block is over, so that no exception breaks into it.

    Whatever calls TensorFlow does so within it; also as a decorator.

    NOTE: TensorFlow does not expect a KeyboardInterrupt in the midst of a call. Its C++ asks a Python property for the
    eager context, drops what that raises, and goes on with a null pointer: `tf.constant(0.0)` is a segmentation fault
    then, and other calls end with a TypeError or SystemError. Of 658 interrupts in the first 0.6 ms of an epoch 7
    ended so; within this, none of 1,146. `tests/benchmarks/interruptions.py` counts them.

    NOTE: a mask would not do. It holds for one thread, the system hands the signal to another (TensorFlow's, a heart),
    and Python then runs the handler here all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def wait(number: int, _frame: FrameType | None) -> None:
        waiting.append(number)

    # What the system itself does at a signal, to end the process or to ignore it, breaks into nothing.
    handlers = {number: handler for number in SIGNALS if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, wait)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        # Handled, not raised anew: who counts the signals that the process gets would count these twice.
        for sent in waiting:
            handlers[signal.Signals(sent)](sent, None)

"""The signals that ask for the end, and work that they may not break into."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def _heard() -> tuple[signal.Signals, ...]:
    """The signals that ask for the end; that of a closed terminal too, unless `nohup` has it ignored."""
    always = signal.SIGINT, signal.SIGTERM
    return always if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*always, signal.SIGHUP)


SIGNALS = _heard()
"""What asks for the end of the process."""


@contextmanager
def signals_deferred() -> Iterator[None]:
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

"""TensorFlow brought in without its chatter: the first thing that training and serving do."""

import atexit
import gc
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_ERRORS_BECOME_EXCEPTIONS = "3"
_CHATTER = re.compile(rb"[IW]\d{4} |WARNING: All log messages before absl::InitializeLog")


def start_tensorflow() -> None:
    """Import TensorFlow, quietly unless `TF_CPP_MIN_LOG_LEVEL` is set to less than 3.

    TFRS 0.7 is written against Keras 2, which TensorFlow calls legacy Keras and must be told before it starts.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    # NOTE: level 3 hides what the C++ side says later, such as "failed call to cuInit" where there is no GPU; what
    # matters of it reaches Python as an exception. Its static initialisers write before they read the level, so file
    # descriptor 2 is held back for the 2 s of the import. A crash of the process meanwhile takes its last words along:
    # they are seen with TF_CPP_MIN_LOG_LEVEL=0.
    quiet = os.environ.setdefault(_LEVEL, _ERRORS_BECOME_EXCEPTIONS) == _ERRORS_BECOME_EXCEPTIONS
    if "tensorflow" not in sys.modules:  # what a notebook made with it stays the collector's
        with _without_chatter() if quiet else nullcontext(), _no_garbage_collected():
            import tensorflow  # noqa: F401

            gc.freeze()
    atexit.register(gc.freeze)


@contextmanager
def _no_garbage_collected() -> Iterator[None]:
    """Leave the collector out of an import, which makes half a million objects and next to no garbage.

    NOTE: 3.0 to 2.5 s of the import. Frozen, they are looked through neither in later collections (a worker opens its
    study in 0.2 s in place of 0.55 s) nor, several times, at the end of the process (0.8 to 0.1 s).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Hold back what is written to file descriptor 2, then pass on all but TensorFlow's information and warnings."""
    try:
        stderr = os.dup(2)
    except OSError:  # closed, as by `2>&-`
        yield
        return
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held_back.seek(0)
            for line in held_back:
                if not _CHATTER.match(line):
                    os.write(2, line)

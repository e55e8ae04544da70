"""Programs that are asked for data: bounded in time, and never a secret of theirs on the screen."""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
        status: its exit status; None where it ran out of time and was killed.
        last_line: the last line of its stderr, passwords in URLs masked.
    """

    status: int | None
    last_line: str


def run_to_end(command: Sequence[str], seconds: float, environment: Mapping[str, str]) -> Ended:
    """Run `command` silently, for at most `seconds`, `environment` added to this process's.

    Raises:
        OSError: the program cannot be started.
    """
    # NOTE: a file, not a pipe: a grandchild that outlives the kill would hold a pipe open, and the reader with it.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return Ended(status, _last_line(errors))


def masked(text: str) -> str:
    """`text` with the user and password of every URL replaced."""
    return re.sub(r"://[^/\s]*@", "://***@", text)


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = file.read().decode("utf-8", "replace").split("\n")
    return masked(next((line.strip() for line in reversed(lines) if line.strip()), ""))

"""Find the worker processes of a run, and wait for what happens to them."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psutil


def workers_of(pid: int | None = None) -> list[psutil.Process]:
    """List the living worker processes of a process, this one if none is named, in the order of their starts."""
    found = []
    for child in psutil.Process(pid).children():
        try:
            # Python's resource tracker is a child too.
            is_worker = child.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(child.cmdline())
        except psutil.NoSuchProcess:
            continue
        found += [child] * is_worker
    return sorted(found, key=psutil.Process.create_time)


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> None:
    """Wait until a condition is met; it is an error if that takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def wait_until_gone(processes: Sequence[psutil.Process]) -> None:
    """Wait until processes have ended."""
    wait_for(lambda: not any(map(_is_alive, processes)))


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False

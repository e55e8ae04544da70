"""What this machine offers, and who lives on it."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def identity(pid: int) -> dict[str, str | int]:
    """A process as another one can recognise it later: host, number, and when it began where the system tells."""
    return {"host": socket.gethostname(), "pid": pid, "began": _began(pid)}


def is_gone(process: Mapping[str, str | int]) -> bool:
    """Whether a process of this machine has ended; False for what lives elsewhere, which cannot be told from here."""
    if process["host"] != socket.gethostname():
        return False
    pid = int(process["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's, but alive
    return bool(process["began"]) and process["began"] != _began(pid)  # else its number was given to another


def lives_here(process: Mapping[str, str | int]) -> bool:
    """Whether it is a process of this machine that has not ended."""
    return process["host"] == socket.gethostname() and not is_gone(process)


def _began(pid: int) -> str:
    """Boot and clock tick of the process's start; empty where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{boot}/{fields[19]}"

"""What this machine offers, and who lives on it."""

import errno
import math
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from mtsearch.errors import MachineError

_CGROUPS = Path("/sys/fs/cgroup")
_GPU_SECONDS = 20
_SAME_SECONDS = 1.0
"""Two processes that begin within it have different numbers."""


def usable_cores() -> int:
    """Cores that this process may keep busy: by its affinity, and by the quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _cpu_quotas())]))


def free_memory() -> int:
    """Bytes that this process and its children may still take: of the machine, and of the container's share."""
    free = [int(psutil.virtual_memory().available)]
    for group in _control_groups("memory"):
        limit = _numbers(group / "memory.max") or _numbers(group / "memory.limit_in_bytes")
        used = _numbers(group / "memory.current") or _numbers(group / "memory.usage_in_bytes")
        if limit and used:
            # Cached files: the kernel gives their memory to whoever needs it.
            cached = re.search(r"^inactive_file (\d+)", _text(group / "memory.stat"), re.MULTILINE)
            free.append(max(limit[0] - used[0] + (int(cached[1]) if cached else 0), 0))
    return min(free)


def visible_gpus() -> tuple[str, ...]:
    """The NVIDIA GPUs that TensorFlow would see, each as CUDA_VISIBLE_DEVICES names it; nothing is imported for it."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=_GPU_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return ()
    slices = re.findall(r"UUID: (MIG-[^)]+)\)", done.stdout)
    found = slices or re.findall(r"UUID: (GPU-[^)]+)\)", done.stdout)
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not found or chosen is None:
        return tuple(found)
    names = [name.strip() for name in chosen.split(",")]
    # CUDA takes none from the first name on that it does not know.
    return tuple(names[: next((n for n, name in enumerate(names) if not name or name == "-1"), len(names))])


def free_gpu_memory() -> int | None:
    """Bytes that are free on the first GPU that TensorFlow would see; None: there is none, or it does not say."""
    gpus = visible_gpus()
    if not gpus:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits", "-i", gpus[0]]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=_GPU_SECONDS)
        return int(done.stdout.split()[0]) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):  # "[N/A]" of a slice of a GPU
        return None


def bind(host: str, port: int, tries: int = 1) -> socket.socket:
    """Return a socket with an address of its own, which does not listen yet.

    Args:
        host: address or name.
        port: 0: any that is free.
        tries: number of ports that will do, from `port` on; the first that is free is taken.

    Raises:
        MachineError: there is no such address, or all these ports are taken.
    """
    tried, last = port, min(port + tries - 1, 65535)
    while True:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, tried, type=socket.SOCK_STREAM)[0]
            listener = socket.socket(family, kind, protocol)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
            except OSError:
                listener.close()
                raise
        except (OSError, UnicodeError) as error:
            if getattr(error, "errno", None) == errno.EADDRINUSE and tried < last:
                tried += 1
                continue
            place = f"{host}:{port}" if tried == port else f"{host}:{port} to {tried}"
            reason = getattr(error, "strerror", None) or str(error)
            remedy = "name another with --host and --port; --port 0 takes one that is free"
            raise MachineError(f"cannot listen on {place}: {reason}", remedy) from None
        return listener


def url_of(listener: socket.socket) -> str:
    """The address of a socket for a browser, without a path."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


def identity(pid: int) -> dict[str, str | int | float]:
    """Describe a process so that another process can recognise it later; `began` is in seconds, see `_began`."""
    try:
        began = _began(psutil.Process(pid))
    except psutil.NoSuchProcess:
        began = 0.0
    return {"host": socket.gethostname(), "space": _space(), "pid": pid, "began": began}


def is_gone(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine has ended; False for what lives elsewhere, which cannot be told from here.

    Args:
        process: an `identity`, also one that an earlier version stored.
    """
    if not _is_of_here(process):
        return False
    try:
        found = psutil.Process(int(process["pid"]))
        # A zombie is dead, and its parent (or a container's first process) has not asked for its exit code yet.
        if found.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return True
        return not _is_same_start(process["began"], _began(found))
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:  # another user's, but alive
        return False


def lives_here(process: Mapping[str, Any]) -> bool:
    """Whether it is a process of this machine that has not ended."""
    return _is_of_here(process) and not is_gone(process)


def _is_of_here(process: Mapping[str, Any]) -> bool:
    """Two containers may share a host's name and have other processes under the same numbers."""
    return bool(process["host"] == socket.gethostname() and process.get("space", _space()) == _space())


def _space() -> str:
    """Of process numbers; empty where there is no /proc."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _began(process: psutil.Process) -> float:
    """Seconds from the machine's start to the process's.

    NOTE: psutil's `create_time` is in the wall clock's terms, and moves where the clock is set while the process lives.
    """
    return round(float(process.create_time() - psutil.boot_time()), 2)


def _is_same_start(stored: str | float, began: float) -> bool:
    """Whether a process with a stored process's number began when that one did; if nobody knows, it is taken for it."""
    if isinstance(stored, str):  # version 0.1: boot and clock tick, "3f2a.../8812", or empty
        ticks = stored.rpartition("/")[2]
        stored = int(ticks) / os.sysconf("SC_CLK_TCK") if ticks.isdecimal() else began
    return abs(stored - began) < _SAME_SECONDS


def _cpu_quotas() -> Iterator[float]:
    """Cores that the container may keep busy, by each of its control groups that has a limit."""
    for group in _control_groups("cpu"):
        limit = _numbers(group / "cpu.max")
        limit = limit or _numbers(group / "cpu.cfs_quota_us") + _numbers(group / "cpu.cfs_period_us")
        if len(limit) == 2 and min(limit) > 0:
            quota, period = limit
            yield quota / period


def _control_groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups of Linux that hold this process, versions 1 and 2, from the innermost outwards."""
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _CGROUPS / controller if controllers else _CGROUPS
        inner = root / path.lstrip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def _numbers(path: Path) -> list[int]:
    """The numbers of a file of the kernel's; none if there is no file, or no limit: "max"."""
    words = _text(path).split()
    return [] if "max" in words else [int(word) for word in words]


def _text(path: Path) -> str:
    """A file of the kernel's; empty if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""

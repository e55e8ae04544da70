"""Ask this machine for its cores, memory, GPUs and processes, open a port, and start TensorFlow."""

import atexit
import errno
import gc
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psutil

from mtsearch.errors import MachineError

_CGROUPS = Path("/sys/fs/cgroup")
_GPU_SECONDS = 20
_SAME_SECONDS = 1.0
"""Tolerance between two start times of one process; the system does not give a process number again so soon."""


def usable_cores() -> int:
    """Return how many cores this process may use, by its affinity and by the quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _cpu_quotas())]))


def free_memory() -> int:
    """Return the bytes of memory that this process and its children may still take, by machine and container."""
    free = [int(psutil.virtual_memory().available)]
    for group in _control_groups("memory"):
        limit = _numbers(group / "memory.max") or _numbers(group / "memory.limit_in_bytes")
        used = _numbers(group / "memory.current") or _numbers(group / "memory.usage_in_bytes")
        if limit and used:
            # The memory of cached files counts as free: the kernel gives it to any process that needs it.
            cached = re.search(r"^inactive_file (\d+)", _text(group / "memory.stat"), re.MULTILINE)
            free.append(max(limit[0] - used[0] + (int(cached[1]) if cached else 0), 0))
    return min(free)


def visible_gpus() -> tuple[str, ...]:
    """Return the NVIDIA GPUs that TensorFlow would see, named as in CUDA_VISIBLE_DEVICES, without importing it."""
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
    # CUDA ignores the first name that it does not know and all names behind it.
    return tuple(names[: next((n for n, name in enumerate(names) if not name or name == "-1"), len(names))])


def free_gpu_memory() -> int | None:
    """Return the free bytes of the first GPU that TensorFlow would see; None without a GPU or if it does not tell."""
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
    """Return a socket that is bound to a free port and does not listen yet.

    Args:
        host: address or name.
        port: 0 takes any free port.
        tries: number of ports to try, from `port` on; the first free one is taken.

    Raises:
        MachineError: the address does not exist, or all these ports are in use.
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
            remedy = "choose another address with --host and --port; --port 0 takes a free port"
            raise MachineError(f"cannot listen on {place}: {reason}", remedy) from None
        return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket for a browser, without a path."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


def identity(pid: int) -> dict[str, str | int | float]:
    """Describe a process so that it can be recognised later; `began` is in seconds since the machine's start."""
    try:
        began = _start_time(psutil.Process(pid))
    except psutil.NoSuchProcess:
        began = 0.0
    return {"host": socket.gethostname(), "space": _pid_namespace(), "pid": pid, "began": began}


def is_gone(process: Mapping[str, Any]) -> bool:
    """Tell whether a process of this machine has ended; False for a process elsewhere, which cannot be seen from here.

    Args:
        process: the value of `identity`, also one that an earlier version stored.
    """
    if not _is_on_this_machine(process):
        return False
    try:
        found = psutil.Process(int(process["pid"]))
        # A zombie has ended; only its parent (or a container's first process) has not read its exit code yet.
        if found.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return True
        return not _is_same_start(process["began"], _start_time(found))
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:  # another user's, but alive
        return False


def is_running_here(process: Mapping[str, Any]) -> bool:
    """Tell whether a process belongs to this machine and has not ended."""
    return _is_on_this_machine(process) and not is_gone(process)


def _is_on_this_machine(process: Mapping[str, Any]) -> bool:
    """Tell whether a process has this host's name and this container's process numbers."""
    # Two containers may share a host name and give the same numbers to different processes.
    return bool(process["host"] == socket.gethostname() and process.get("space", _pid_namespace()) == _pid_namespace())


def _pid_namespace() -> str:
    """Return the name of this process's namespace of process numbers; empty if there is no /proc."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _start_time(process: psutil.Process) -> float:
    """Return the seconds from the machine's start to the process's start.

    NOTE: psutil's `create_time` follows the wall clock, and changes if the clock is set while the process lives.
    """
    return round(float(process.create_time() - psutil.boot_time()), 2)


def _is_same_start(stored: str | float, began: float) -> bool:
    """Tell whether two start times are those of one process; True if the stored one is unknown."""
    if isinstance(stored, str):  # version 0.1: boot and clock tick, "3f2a.../8812", or empty
        ticks = stored.rpartition("/")[2]
        stored = int(ticks) / os.sysconf("SC_CLK_TCK") if ticks.isdecimal() else began
    return abs(stored - began) < _SAME_SECONDS


def _cpu_quotas() -> Iterator[float]:
    """Yield how many cores the container may use, for each of its control groups that has a limit."""
    for group in _control_groups("cpu"):
        limit = _numbers(group / "cpu.max")
        limit = limit or _numbers(group / "cpu.cfs_quota_us") + _numbers(group / "cpu.cfs_period_us")
        if len(limit) == 2 and min(limit) > 0:
            quota, period = limit
            yield quota / period


def _control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's Linux control groups (versions 1 and 2), the innermost first."""
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _CGROUPS / controller if controllers else _CGROUPS
        inner = root / path.lstrip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def _numbers(path: Path) -> list[int]:
    """Return the numbers in a file of the kernel; none if the file does not exist or says "max" (no limit)."""
    words = _text(path).split()
    return [] if "max" in words else [int(word) for word in words]


def _text(path: Path) -> str:
    """Return the text of a file of the kernel; empty if the file does not exist."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


_TENSORFLOW_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_ERRORS_BECOME_EXCEPTIONS = "3"
_TENSORFLOW_CHATTER = re.compile(rb"[IW]\d{4} |WARNING: All log messages before absl::InitializeLog")


def start_tensorflow() -> None:
    """Import TensorFlow with Keras 2, without its messages unless `TF_CPP_MIN_LOG_LEVEL` is less than 3.

    TFRS 0.7 is written for Keras 2, which TensorFlow calls legacy Keras; TensorFlow must be told so before it starts.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    # NOTE: level 3 hides later messages of the C++ code, such as "failed call to cuInit" on a machine without a GPU;
    # the important ones reach Python as exceptions. Its static initialisers write before they read the level, so file
    # descriptor 2 is held back for the 2 s of the import. If the process crashes in that time, its last messages are
    # lost; TF_CPP_MIN_LOG_LEVEL=0 shows them.
    quiet = os.environ.setdefault(_TENSORFLOW_LEVEL, _ERRORS_BECOME_EXCEPTIONS) == _ERRORS_BECOME_EXCEPTIONS
    if "tensorflow" not in sys.modules:  # a notebook that imported it keeps its objects collectable
        with _hide_chatter() if quiet else nullcontext(), _pause_garbage_collection():
            import tensorflow  # noqa: F401

            gc.freeze()
    atexit.register(gc.freeze)


@contextmanager
def _pause_garbage_collection() -> Iterator[None]:
    """Stop garbage collection during an import, which makes half a million objects and almost no garbage.

    NOTE: this takes the import from 3.0 to 2.5 s. Frozen objects are skipped by later collections (a worker opens its
    study in 0.2 s in place of 0.55 s) and by the several ones at the end of the process (0.8 to 0.1 s).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _hide_chatter() -> Iterator[None]:
    """Hold back the output on file descriptor 2, then write all of it except TensorFlow's information and warnings."""
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
                if not _TENSORFLOW_CHATTER.match(line):
                    os.write(2, line)

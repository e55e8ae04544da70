"""What this machine offers, and who lives on it."""

import math
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_GPU_SECONDS = 20


def usable_cores() -> int:
    """Cores that this process may keep busy: by its affinity, and by the quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _cpu_quotas())]))


def free_memory() -> int | None:
    """Bytes that this process and its children may still take: of the machine and of the container; None: unknown."""
    free = [_field(Path("/proc/meminfo"), "MemAvailable:", 1024)]
    for group in _control_groups("memory"):
        limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            cached = _field(group / "memory.stat", "inactive_file", 1) or 0  # given back where somebody needs it
            free.append(max(limit - used + cached, 0))
    return min((each for each in free if each is not None), default=None)


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


def identity(pid: int) -> dict[str, str | int]:
    """A process as another one can recognise it later: host, number, and when it began where the system tells."""
    return {"host": socket.gethostname(), "space": _space(), "pid": pid, "began": _began(pid)}


def is_gone(process: Mapping[str, str | int]) -> bool:
    """Whether a process of this machine has ended; False for what lives elsewhere, which cannot be told from here."""
    if not _is_of_here(process):
        return False
    pid = int(process["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's, but alive
    if _stat(pid)[:1] in (["Z"], ["X"]):  # dead, and its parent (or a container's first process) has not looked yet
        return True
    return bool(process["began"]) and process["began"] != _began(pid)  # else its number was given to another


def lives_here(process: Mapping[str, str | int]) -> bool:
    """Whether it is a process of this machine that has not ended."""
    return _is_of_here(process) and not is_gone(process)


def _is_of_here(process: Mapping[str, str | int]) -> bool:
    """Two containers may share a host's name and have other processes under the same numbers."""
    return process["host"] == socket.gethostname() and process.get("space", _space()) == _space()


def _space() -> str:
    """Of process numbers; empty where there is no /proc."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _began(pid: int) -> str:
    """Boot and clock tick of the process's start; empty where there is no /proc."""
    fields = _stat(pid)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return f"{boot}/{fields[19]}" if fields else ""


def _stat(pid: int) -> list[str]:
    """What Linux says of a process, from its state on; empty where it says nothing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_quotas() -> Iterator[float]:
    for group in _control_groups("cpu"):
        quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        try:
            first, second = (group / "cpu.max").read_text(encoding="ascii").split()
            quota, period = int(first), int(second)
        except (OSError, ValueError):  # none, or "max"
            pass
        if quota is not None and period and quota > 0:
            yield quota / period


def _control_groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups of Linux that hold this process, versions 1 and 2, from the innermost outwards."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _CGROUPS / controller if controllers else _CGROUPS
        inner = root / path.lstrip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def _number(path: Path) -> int | None:
    """What a file of the kernel's says; None where there is no file or no limit."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _field(path: Path, name: str, unit: int) -> int | None:
    """The number after a name in a file of the kernel's, in units of so many."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * unit for line in lines if line.split()[:1] == [name]), None)

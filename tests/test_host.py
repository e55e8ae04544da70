"""Processes are recognised across containers, clock changes and versions; ports are opened or refused."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mtsearch.errors import MachineError
from mtsearch.host import bind, identity, is_gone, is_running_here, url_of

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that sleeps."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as sleeper:
        yield sleeper
        sleeper.kill()


def test_a_process_lives_until_it_ends(process: subprocess.Popen[bytes]) -> None:
    known = identity(process.pid)
    assert is_running_here(known)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie
    assert is_gone(known)
    process.wait()
    assert is_gone(known)
    assert is_gone(identity(process.pid))
    assert not is_running_here(known)


def test_a_number_that_was_given_to_another_process() -> None:
    own = identity(os.getpid())
    began = float(own["began"])
    assert not is_gone(own)
    assert is_gone({**own, "began": began - 60})
    assert is_gone({**own, "began": 0.0})  # it had ended before it was looked at


@pytest.mark.parametrize("elsewhere", [{"host": "elsewhere"}, {"space": "pid:[1]"}])
def test_nothing_is_known_of_a_process_elsewhere(elsewhere: dict[str, str]) -> None:
    """A process on another machine, or in another container with the same host name, is never said to have ended."""
    other = {**identity(os.getpid()), "began": 0.0, **elsewhere}
    assert not is_gone(other)
    assert not is_running_here(other)


@LINUX
def test_what_version_0_1_stored(process: subprocess.Popen[bytes]) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    ticks = int(Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
    known = identity(process.pid)
    for began in (f"{boot}/{ticks}", "", "unreadable"):
        assert is_running_here({**known, "began": began})
    without_space = {name: known[name] for name in ("host", "pid")} | {"began": f"{boot}/{ticks - 6000}"}
    assert is_gone(without_space)
    process.kill()
    process.wait()
    assert is_gone({**known, "began": ""})


@LINUX
def test_a_clock_that_is_set_ends_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process lives on if the clock is put forward by an hour."""
    own, pid = identity(os.getpid()), str(os.getpid())
    for entry in ("meminfo", pid):
        (tmp_path / entry).symlink_to(Path("/proc", entry))
    (tmp_path / "stat").write_text(f"btime {int(psutil.boot_time()) + 3600}\n")
    created = psutil.Process().create_time()
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert psutil.Process().create_time() == created + 3600
    assert is_running_here(own)
    assert identity(os.getpid()) == own


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")])
def test_an_address_of_ones_own(host: str, url: str) -> None:
    try:
        listener = bind(host, 0)
    except MachineError:
        pytest.skip("no IPv6")
    with listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"{url}{port}"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port))
        listener.listen()
        socket.create_connection((host, port)).close()


def test_ports_that_are_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            MachineError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another"
        ):
            bind("127.0.0.1", port)
        with bind("127.0.0.1", port, 50) as next_to_it:
            found = next_to_it.getsockname()[1]
            next_to_it.listen()
            assert port < found < port + 50
            with pytest.raises(MachineError, match=f"cannot listen on 127.0.0.1:{port} to {found}: Address already in"):
                bind("127.0.0.1", port, found - port + 1)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "x" * 64])
def test_addresses_that_nobody_here_has(host: str) -> None:
    with pytest.raises(MachineError, match=r"cannot listen on .*:0: .*; choose another address with --host and --port"):
        bind(host, 0, 50)

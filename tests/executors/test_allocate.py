"""The number of workers, and the cores, memory and GPU of each."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mtsearch import api, host
from mtsearch import executors as subject
from mtsearch.executors import WorkerResources, allocate
from tests.helpers.trainers import gpu_recording_formula
from tests.search.test_run import define

LISTING = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb)
"""


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `nvidia-smi` report two GPUs."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{LISTING}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "visible_gpus", lambda: ())


def cores(monkeypatch: pytest.MonkeyPatch, count: int, mebibytes: int) -> None:
    monkeypatch.setattr(subject, "usable_cores", lambda: count)
    monkeypatch.setattr(subject, "free_memory", lambda: mebibytes << 20)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("count", "mebibytes", "expected"),
    [(8, 64_000, [1] * 8), (8, 2_000, [4] * 2), (8, 100, [8]), (1, 64_000, [1])],
)
def test_a_worker_per_core_that_the_memory_holds(
    monkeypatch: pytest.MonkeyPatch, count: int, mebibytes: int, expected: list[int]
) -> None:
    cores(monkeypatch, count, mebibytes)
    assert allocate("auto") == [WorkerResources(threads) for threads in expected]


@pytest.mark.usefixtures("no_gpu")
def test_a_number_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(monkeypatch, 4, 100)
    assert allocate(2) == [WorkerResources(2)] * 2
    assert allocate(9) == [WorkerResources(1)] * 9


@pytest.mark.usefixtures("gpus")
def test_a_worker_per_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(monkeypatch, 8, 100)
    assert allocate("auto") == [WorkerResources(4, "GPU-aaaa"), WorkerResources(4, "GPU-bbbb")]
    assert [each.gpu for each in allocate(3)] == ["GPU-aaaa", "GPU-bbbb", "GPU-aaaa"]


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("chosen", "seen"), [("1", ("1",)), ("GPU-bbbb,0", ("GPU-bbbb", "0")), ("", ()), ("-1", ()), ("0,-1,1", ("0",))]
)
def test_only_gpus_that_cuda_may_show_are_used(
    monkeypatch: pytest.MonkeyPatch, chosen: str, seen: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert host.visible_gpus() == seen


@pytest.mark.slow
@pytest.mark.usefixtures("gpus")
def test_each_worker_is_begun_with_its_own_gpu(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: Callable[[int], None]
) -> None:
    together(2)
    notes = tmp_path / "notes"
    notes.mkdir()
    monkeypatch.setenv("MTSEARCH_TEST_NOTES", str(notes))
    results = api.run(
        define(data), 8, workers="auto", storage=str(tmp_path / "a.db"), make_trainer=gpu_recording_formula
    )
    seen = sorted(note.read_text() for note in notes.iterdir())
    assert seen == ["CUDA_VISIBLE_DEVICES=GPU-aaaa", "CUDA_VISIBLE_DEVICES=GPU-bbbb"]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert results.provenance["trainer"]["workers"] == 2


class ContainersTests:
    """Tests of the limits that control groups set to a container, with files as the kernel writes them."""

    @pytest.fixture
    def groups(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(host, "_control_groups", lambda _controller: iter([tmp_path]))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)), raising=False)
        return tmp_path

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            ({}, 64),
            ({"cpu.max": "200000 100000"}, 2),
            ({"cpu.max": "150000 100000"}, 2),
            ({"cpu.max": "5000 100000"}, 1),
            ({"cpu.max": "max 100000"}, 64),
            ({"cpu.cfs_quota_us": "300000", "cpu.cfs_period_us": "100000"}, 3),
            ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, 64),
        ],
    )
    def test_cores(self, groups: Path, files: dict[str, str], expected: int) -> None:
        for name, text in files.items():
            (groups / name).write_text(f"{text}\n")
        assert host.usable_cores() == expected

    @pytest.mark.parametrize(
        "names", [("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")]
    )
    def test_memory(self, groups: Path, names: tuple[str, str]) -> None:
        for name, text in zip(names, ("1000000", "900000"), strict=True):
            (groups / name).write_text(f"{text}\n")
        (groups / "memory.stat").write_text("anon 5\ninactive_file 50000\n")
        assert host.free_memory() == 150_000

    def test_no_limit(self, groups: Path) -> None:
        (groups / "memory.max").write_text("max\n")
        (groups / "memory.current").write_text("900000\n")
        assert host.free_memory() > 10 << 20


def test_resources_of_this_machine_can_be_read() -> None:
    assert host.usable_cores() >= 1
    assert host.free_memory() > 0
    assert isinstance(host.visible_gpus(), tuple)

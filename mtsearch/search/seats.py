"""How many workers a run has, and what each of them computes on."""

from dataclasses import dataclass
from typing import Literal

from mtsearch.machine import free_memory, usable_cores, visible_gpus

Workers = int | Literal["auto"]

WORKER_BYTES = 900 << 20
"""A worker on MovieLens 100K takes up to 826 MiB at its peak (README, Speed), and 9 % to spare."""


@dataclass(frozen=True)
class Seat:
    """Where one worker computes.

    Attributes:
        threads: of its trainer.
        gpu: as CUDA_VISIBLE_DEVICES names it; None: whatever it finds.
    """

    threads: int
    gpu: str | None = None


def seats(workers: Workers) -> list[Seat]:
    """One seat per worker; the GPUs go round.

    `auto`: a worker per visible GPU; without one, a worker of one thread per usable core, as many as the free memory
    holds. A worker alone gets all cores.
    """
    gpus = visible_gpus()
    count = workers if workers != "auto" else len(gpus) or _as_many_as_fit()
    threads = max(1, usable_cores() // count)
    return [Seat(threads, gpus[number % len(gpus)] if gpus else None) for number in range(count)]


def _as_many_as_fit() -> int:
    return max(1, min(usable_cores(), free_memory() // WORKER_BYTES))

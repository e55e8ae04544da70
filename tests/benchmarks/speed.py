"""Compare the same work by the tutorial, by its maintainers' advice and by mtsearch, in one run on one machine.

    python -m tests.benchmarks.speed [--rival-trials 2] [--rounds 3] [-o speed.json]

Prints a table and, with -o, writes all figures as JSON. Every part runs in a process of its own. The rivals train at
every embedding size that a study of mtsearch in one process has tried, and count as often as it has tried it. Takes
about 12 minutes on 2 cores; ratios are what to quote, since machines are noisy.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RIVALS = ("published", "advised")
TIMED = ("seconds", "cpu", "peak")
EQUAL_LOSSES, EQUAL_METRICS = 1e-4, 2e-3


def main() -> None:
    """Measure, check that all did the same work, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rival-trials", type=int, default=2, help="timed trials of each rival and embedding size")
    parser.add_argument("--rounds", type=int, default=3, help="timed studies of mtsearch")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    figures: dict[str, Any] = {"cores": len(os.sched_getaffinity(0))}
    figures["mtsearch"] = child("mtsearch")
    for name in RIVALS:
        timed = {size: child(name, str(options.rival_trials), size, "0") for size in figures["mtsearch"]["sizes"]}
        figures[name] = child(name) | {key: {size: each[key] for size, each in timed.items()} for key in TIMED}
    figures["published by user"] = child("published", "1", "32", "1")["seconds"]
    figures["studies"] = {f"{workers} workers": [study(workers) for _ in range(options.rounds)] for workers in (1, 2)}
    compare(figures)
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1))
    report(figures)


def child(*args: str) -> dict[str, Any]:
    """Run one part in a separate process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.parts", *args], stdout=subprocess.PIPE, check=True, text=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def study(workers: int, trials: int = 50) -> dict[str, float]:
    """Time the whole command from start to end; peak memory is that of its largest process."""
    command = ["run", "ml-100k-quick", "--trials", str(trials), "--workers", str(workers)]
    whole = [sys.executable, "-m", "mtsearch", *command]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen(whole, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    if status:
        sys.exit(f"mtsearch {' '.join(command)} ended with {status}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * 1024}


def compare(figures: dict[str, Any]) -> None:
    """Check that nobody does less: the same losses per step and the same metrics from the same start.

    Raises:
        SystemExit: they differ.
    """
    ours = figures["mtsearch"]
    for name in RIVALS:
        theirs = figures[name]
        steps = zip(ours["losses"], theirs["losses"], strict=True)
        figures[name]["largest loss difference"] = worst = max(abs(a - b) / abs(b) for a, b in steps)
        differences = {key: abs(ours["metrics"][key] - theirs["metrics"][key]) for key in ("rmse", "top_100")}
        figures[name]["metric differences"] = differences
        if worst > EQUAL_LOSSES or max(differences.values()) > EQUAL_METRICS:
            sys.exit(f"{name} did other work: losses differ by {worst:.1e}, metrics by {differences}")


def weighted(by_size: dict[str, list[float]], trials: dict[str, int]) -> list[float]:
    """Return minimum, median and maximum time of a trial of the study, averaged over its embedding sizes."""

    def average(of: Callable[[list[float]], float]) -> float:
        return sum(of(by_size[size]) * n for size, n in trials.items()) / sum(trials.values())

    return [average(min), average(statistics.median), average(max)]


def report(figures: dict[str, Any]) -> None:
    """Print the table and the figures that it follows from."""
    ours = figures["mtsearch"]
    studies = {name: [run["wall"] for run in runs] for name, runs in figures["studies"].items()}
    print(f"{figures['cores']} cores; float32 matrix products: {ours['gflops_1']:.0f} GFLOP/s on one core, "
          f"{ours['gflops']:.0f} on all\n")  # fmt: skip
    print("| | seconds per trial | x published | x advised | CPU seconds per trial | x published | peak memory |")
    print("|--|--|--|--|--|--|--|")
    sizes = ours["sizes"]
    rows = {f"as {name}": weighted(figures[name]["seconds"], sizes) for name in RIVALS}
    rows |= {f"mtsearch, {name}": [wall / 50 for wall in walls] for name, walls in studies.items()}
    rows["mtsearch, training and evaluation alone"] = weighted(ours["seconds"], sizes)
    cpu = {f"as {name}": weighted(figures[name]["cpu"], sizes) for name in RIVALS}
    cpu |= {f"mtsearch, {name}": [run["cpu"] / 50 for run in runs] for name, runs in figures["studies"].items()}
    memory = {f"as {name}": max(figures[name]["peak"].values()) for name in RIVALS}
    memory |= {f"mtsearch, {name}": max(run["peak"] for run in runs) for name, runs in figures["studies"].items()}
    memory["mtsearch, training and evaluation alone"] = ours["peak"]
    for name, seconds in rows.items():
        ratios = [
            statistics.median(rows[rival]) / statistics.median(seconds) for rival in ("as published", "as advised")
        ]
        peak = memory[name] / 2**20
        used = statistics.median(cpu[name]) if name in cpu else None
        per_core = f"{used:.2f} | {statistics.median(cpu['as published']) / used:.1f}" if used else "|"
        print(f"| {name} | {statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f}) "
              f"| {ratios[0]:.1f} | {ratios[1]:.1f} | {per_core} | {peak:.0f} MiB |")  # fmt: skip
    ideal = ours["study_flops"] / ours["gflops"] / 1e9
    for name, walls in studies.items():
        wall = statistics.median(walls)
        print(f"\n50 trials, {name}, prompt to prompt: {wall:.1f} s ({min(walls):.1f}-{max(walls):.1f}), "
              f"{wall / ideal:.2f}x of the arithmetic")  # fmt: skip
    print("\nthe study's trials by embedding size: " + ", ".join(f"{size}: {n}" for size, n in sizes.items()))
    for name in RIVALS:
        medians = {size: statistics.median(each) for size, each in figures[name]["seconds"].items()}
        print(f"{name}: " + ", ".join(f"{medians[size]:.1f} s at {size}" for size in sizes))
    print(f"published, a batch's rows by user as mtsearch has them: {figures['published by user'][0]:.1f} s at 32")
    print("\nwhere the time goes (one process): " + ", ".join(f"{k} {v:.2f} s" for k, v in ours["breakdown"].items()))
    for name in RIVALS:
        print(f"{name}: losses equal to {figures[name]['largest loss difference']:.1e}, "
              f"metrics to {figures[name]['metric differences']}")  # fmt: skip


if __name__ == "__main__":
    main()

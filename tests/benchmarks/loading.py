"""Measure seconds and peak memory of each step from a source of many rows to their evaluation, in separate processes.

    python -m tests.benchmarks.loading [--size 25m]

`synthetic/25m`: 25 million ratings, 162,000 users and 62,000 items. Tables are read in any order and with string ids,
from a temporary folder (2 GB). What is judged is random embeddings of D = 32, popular items first, by NumPy: TensorFlow
takes no part. Takes about 5 minutes on 2 cores.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtsearch.data import Split, load, make_split
from mtsearch.data.interactions import Codes
from mtsearch.data.synthetic import SIZES, make_synthetic
from mtsearch.evaluation import Evaluator
from mtsearch.study_file.sections import DataSection, SplitSection

Singles = NDArray[np.float32]


def main() -> None:
    """Measure every step and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[name.partition("/")[2] for name in SIZES], default="25m")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    source = f"synthetic/{options.size}"
    if options.part:
        part, folder = options.part
        seconds = PARTS[part](source, Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"seconds": seconds, "peak": peak}))
        return
    print("| | seconds | GiB |\n|--|--|--|")
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            command = [sys.executable, "-m", "tests.benchmarks.loading", "--size", options.size, "--part", part, folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            print(f"| {part} | {figures['seconds']:.1f} | {figures['peak']:.1f} |", flush=True)


def made(source: str, _folder: Path) -> float:
    """Return the seconds to make the data."""
    return timed(lambda: make_synthetic(*SIZES[source]))


def written(source: str, folder: Path) -> float:
    """Return the seconds to make the data and to write it, shuffled, for the steps that read it."""
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    def write() -> None:
        table = make_synthetic(*SIZES[source])
        rows = table.rows.take(np.random.default_rng(0).permutation(len(table.rows)))
        columns = pa.table({
            "user": pa.array(table.user_ids, pa.string()).take(pa.array(rows.users)),
            "item": pa.array(table.item_ids, pa.string()).take(pa.array(rows.items)),
            "rating": pa.array(rows.ratings),
            "timestamp": pa.array(rows.timestamps),
        })  # fmt: skip
        pq.write_table(columns, folder / "rows.parquet")
        pc.write_csv(columns, folder / "rows.csv")

    return timed(write)


def from_parquet(_source: str, folder: Path) -> float:
    """Return the seconds to read the Parquet file."""
    return timed(lambda: load(DataSection(source=str(folder / "rows.parquet"))))


def from_csv(_source: str, folder: Path) -> float:
    """Return the seconds to read the CSV file."""
    return timed(lambda: load(DataSection(source=str(folder / "rows.csv"))))


def divided(source: str, _folder: Path) -> float:
    """Return the seconds to split the data at random."""
    table = make_synthetic(*SIZES[source])
    return timed(lambda: make_split(table, SplitSection()))


def planned(source: str, _folder: Path) -> float:
    """Return the seconds to plan the ranking of a split."""
    split = make_split(make_synthetic(*SIZES[source]), SplitSection())
    return timed(lambda: Evaluator(split, split.validation))


def judged(source: str, _folder: Path) -> float:
    """Return the seconds to evaluate all validation rows once."""
    split = make_split(make_synthetic(*SIZES[source]), SplitSection())
    evaluator = Evaluator(split, split.validation)
    return timed(lambda: evaluator.evaluate(Embeddings(split)))


class Embeddings:
    """A scorer of random embeddings, whose first dimension ranks popular items first."""

    def __init__(self, split: Split) -> None:
        draw = np.random.default_rng(0)
        self._users = draw.standard_normal((len(split.user_ids), 32), np.float32)
        self._items = draw.standard_normal((len(split.item_ids), 32), np.float32)
        self._users[:, 0] = 1
        self._items[:, 0] = 2 * np.log1p(np.bincount(split.train.items, minlength=len(split.item_ids)))
        self._catalogue = self._items[split.catalogue].T.copy()

    def ratings(self, users: Codes, items: Codes) -> Singles:
        """Return ratings `[B]`."""
        result: Singles = np.einsum("nd,nd->n", self._users[users], self._items[items])
        return result

    def scores(self, users: Codes) -> Singles:
        """Return scores `[u, C]`."""
        result: Singles = self._users[users] @ self._catalogue
        return result


PARTS: dict[str, Callable[[str, Path], float]] = {
    "made": made,
    "made and written": written,
    "from Parquet, in any order": from_parquet,
    "from CSV, in any order": from_csv,
    "split at random": divided,
    "what ranking needs, worked out once": planned,
    "judged": judged,
}


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

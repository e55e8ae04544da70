"""Compare samplers and a grid of weights by the hypervolume of their fronts, over seeds, on real training.

    python -m tests.benchmarks.samplers [--definition NAME ...] [--sampler NAME ...] [--seeds 10] [--storage FILE]

Prints a table. What is finished is kept in --json and not run again, unless what the definition searches or fixes has
changed; a study that was interrupted goes on, as long as --storage is the same. All samplers run at seed 0, then all at
seed 1, ..., so that a partial run is fair.

The grid is what people try by hand: 6 rating weights by 8 retrieval weights over the definition's ranges, everything
else at its default, beside the two trials that begin every study.
"""

import argparse
import hashlib
import json
import os
import statistics
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtsearch import StudyDefinition, api
from mtsearch.data import Split
from mtsearch.files import write_atomically
from mtsearch.models.trainer import MakeTrainer, Trainer, make_joint_trainer

RESULTS = Path(__file__).parent / "results" / "samplers.json"
GRID = "grid of weights"
SAMPLERS: dict[str, dict[str, Any]] = {
    GRID: {"kind": "random"},
    "random": {"kind": "random"},
    "qmc": {"kind": "qmc"},
    "tpe": {"kind": "tpe"},
    "tpe multivariate": {"kind": "tpe", "multivariate": True},
    "nsga2": {"kind": "nsga2"},
    "nsga3": {"kind": "nsga3"},
}
if find_spec("torch"):
    SAMPLERS["gp"] = {"kind": "gp"}

Results = dict[str, dict[int, float]]
"""Hypervolume by sampler and seed."""


def main() -> None:
    """Run the missing studies, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--definition", nargs="+", default=["ml-100k-quick", "ml-100k"], metavar="NAME")
    parser.add_argument("--sampler", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=10, help="0, 1, ... so many of them")
    parser.add_argument("--trials", type=int, default=50, help="in each study")
    parser.add_argument("--storage", type=Path, default=Path("samplers.db"), metavar="FILE")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="what is finished")
    parser.add_argument("--threads", type=int, default=1, help="of TensorFlow")
    parser.add_argument("--nice", action="store_true", help="at the lowest priority")
    parser.add_argument("--table", action="store_true", help="run nothing, print what there is")
    options = parser.parse_args()
    if options.nice:
        os.nice(19)
    for definition in options.definition:
        if not options.table:
            run(definition, options)
        found = results(definition, options)
        print(f"\n{definition}, {options.trials} trials, hypervolume\n\n{table(found)}", flush=True)


def run(definition: str, options: argparse.Namespace) -> None:
    """Run the studies of a definition that are not finished."""
    make_trainer = shared_trainer(options.threads)
    done = results(definition, options)
    for seed in range(options.seeds):
        for sampler in options.sampler:
            if seed in done[sampler]:
                continue
            study = define(definition, sampler, seed)
            record = api.run(study, until=options.trials, storage=str(options.storage), make_trainer=make_trainer)
            print(f"{record.name}: {record.hypervolume:.4f}", file=sys.stderr, flush=True)
            if record.interrupted:
                sys.exit(130)
            keep(definition, sampler, seed, record.hypervolume, options)


def define(definition: str, sampler: str, seed: int) -> StudyDefinition:
    """Return the definition with a name, a seed and a sampler for one study."""
    name = f"{definition.removeprefix('ml-100k-')} {sampler} {seed}"
    values = {"study.name": name, "study.seed": seed, "study.sampler": SAMPLERS[sampler]}
    study = StudyDefinition.load(definition, values=values)
    if sampler != GRID:
        return study
    # The others' fronts differ by what they try, this one's by the draw of the initial weights alone.
    raw = study.resolved()
    raw["fixed"]["seed"] = 42 + seed
    first, second = (name for name in raw["space"] if "weight" in name)
    raw["trials"] = [
        {first: float(rating), second: float(retrieval)}
        for rating in spread(raw["space"][first], 6)
        for retrieval in spread(raw["space"][second], 8)
    ]
    return StudyDefinition.from_mapping(raw)


def spread(parameter: Mapping[str, float], number: int) -> NDArray[np.float64]:
    """Return a number of values over the range of a parameter, ends included, at equal ratios."""
    low, high = parameter["low"], parameter["high"]
    return np.clip(np.geomspace(low, high, number), low, high)


def shared_trainer(threads: int) -> MakeTrainer:
    """Make one trainer for all studies of a definition: they have the same split and share its graphs."""
    made: list[tuple[Trainer, Mapping[str, Any]]] = []

    def make(split: Split, _threads: int | None) -> tuple[Trainer, Mapping[str, Any]]:
        if not made:
            made.append(make_joint_trainer(split, threads))
        return made[0]

    return make


def results(definition: str, options: argparse.Namespace) -> Results:
    """Return the finished studies of the present definition, for the given seeds."""
    there = kept(definition, options)
    return {
        sampler: {int(seed): volume for seed, volume in there.get(sampler, {}).items() if int(seed) < options.seeds}
        for sampler in SAMPLERS
    }


def keep(definition: str, sampler: str, seed: int, volume: float, options: argparse.Namespace) -> None:
    """Add a finished study to the file; entries of other samplers and seeds stay."""
    there = kept(definition, options)
    there.setdefault(sampler, {})[str(seed)] = volume
    file = json.loads(options.json.read_text()) if options.json.exists() else {}
    file[definition] = {"version": version(definition, options.trials), "trials": options.trials, "hypervolume": there}
    write_atomically(options.json, json.dumps(file, indent=1).encode())


def kept(definition: str, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the entries of the file for the present definition: hypervolume by sampler and seed."""
    file = json.loads(options.json.read_text()) if options.json.exists() else {}
    there = file.get(definition, {})
    found: dict[str, dict[str, float]] = {}
    if there.get("version") == version(definition, options.trials):
        found = there["hypervolume"]
    return found


def version(definition: str, trials: int) -> str:
    """Return a text of everything that the figures depend on."""
    resolved = StudyDefinition.load(definition).resolved()
    text = json.dumps([resolved["space"], resolved["fixed"], trials], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def table(found: Results) -> str:
    """Return a Markdown table with a row per sampler; a seed without a random study counts in no comparison."""
    lines = ["| sampler | seeds | median | quartiles | min | max | beats random |", "|--|--|--|--|--|--|--|"]
    for sampler, by_seed in found.items():
        if not by_seed:
            lines.append(f"| {sampler} | 0 | | | | | |")
            continue
        values = list(by_seed.values())
        first, median, third = quartiles(values)
        both = [seed for seed in by_seed if seed in found["random"]]
        wins = sum(by_seed[seed] > found["random"][seed] for seed in both)
        beats = "" if sampler == "random" else f"{wins} of {len(both)}"
        lines.append(
            f"| {sampler} | {len(values)} | {median:.4f} | {first:.4f}-{third:.4f} "
            f"| {min(values):.4f} | {max(values):.4f} | {beats} |"
        )
    return "\n".join(lines)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return first quartile, median and third quartile; of one value all three are that value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, median, third


if __name__ == "__main__":
    main()

"""Measure what pruning gains: hypervolume against epochs and wall-clock time, over seeds, on real training.

    python -m tests.benchmarks.pruning [--seeds 0 1 2 3 4] [--trials 40] [--storage FILE] [--json FILE]

`ml-100k-wide` with 20 epochs and without its two most expensive choices, D=96 and layers of 128-64. Every study may
spend as many epochs as so many whole trials take, so that whoever stops trials runs more of them. `random` stops at
each rung the share that `halving` stopped there at the same seed, drawn by lot. Each study has a trainer of its own and
so pays for its own graphs. Prints a table; goes on where it was killed, as long as --storage is the same; several may
run at once with seeds of their own. All kinds run at seed 0, then all at seed 1, ..., so that a partial run is fair.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from mtsearch import StudyDefinition, api
from mtsearch.data import Interactions, Split
from mtsearch.errors import StudyNotFound
from mtsearch.evaluation import evaluate_baselines
from mtsearch.executors import SerialExecutor
from mtsearch.models.trainer import EpochMetrics, make_joint_trainer
from mtsearch.pruning import Rule, Rungs
from mtsearch.search import attributes, results
from mtsearch.search.pareto import complete_rows
from mtsearch.search.run import Budget, run_trials
from mtsearch.search.storage import open_writer, reading_storage
from mtsearch.search.storage.url import resolve_url
from mtsearch.search.study import begin_or_resume, collect_provenance, create_study, find_study
from mtsearch.search.trial import TrialFactory, TrialPruner
from mtsearch.signals import catch_termination

DEFINITION, EPOCHS = "ml-100k-wide", 20
KINDS = ("none", "halving", "dominated", "random")
SHARES = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Course:
    """The course of a study: its state after each of its trials, in the order in which they ended.

    Attributes:
        epochs, seconds, volumes: spent and reached until then.
        stopped: trials that were pruned.
    """

    epochs: Sequence[int]
    seconds: Sequence[float]
    volumes: Sequence[float]
    stopped: int

    def at(self, spent: Sequence[float], budget: float) -> float:
        """Return the hypervolume when no more than a budget was spent."""
        within = [volume for used, volume in zip(spent, self.volumes, strict=True) if used <= budget]
        return within[-1] if within else 0.0


Courses = dict[str, dict[int, Course]]
"""By kind and seed."""


@dataclass
class RandomPruner:
    """A pruner that stops a share of the trials at each rung at random, in place of the pruner of the study."""

    study: optuna.Study
    trial: optuna.Trial
    rule: Rule | None
    objectives: tuple[str, str]
    rates: Mapping[int, float] = field(kw_only=True)
    seed: int = field(kw_only=True)
    reason: str = ""

    def should_stop(self, epoch: EpochMetrics) -> bool:
        """See `mtsearch.search.trial.TrialPruner`."""
        draw = np.random.default_rng([self.seed, self.trial.number, epoch.epoch]).random()
        listed = attributes.INITIAL_LABEL in self.trial.user_attrs
        self.reason = "drawn" if not listed and draw < self.rates.get(epoch.epoch, 0.0) else ""
        return bool(self.reason)


def main() -> None:
    """Run the missing studies, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="SEED")
    parser.add_argument("--trials", type=int, default=40, help="whole ones, whose epochs each study may spend")
    parser.add_argument("--storage", type=Path, default=Path("pruning.db"), metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--threads", type=int, default=1, help="of TensorFlow")
    parser.add_argument("--nice", action="store_true", help="at the lowest priority")
    parser.add_argument("--table", action="store_true", help="run nothing, print what there is")
    options = parser.parse_args()
    if options.nice:
        os.nice(19)
    if not options.table:
        run(options)
    found = courses(options)
    print(f"\n{DEFINITION}, {EPOCHS} epochs, {options.trials * EPOCHS} epochs in all, hypervolume\n\n{table(found)}")
    if options.json:
        options.json.write_text(json.dumps(figures(options, found), indent=1))


def run(options: argparse.Namespace) -> None:
    """Run the studies that are not finished."""
    interactions, split = api.prepare(define("none", 0))
    for seed in options.seeds:
        for kind in KINDS:
            done = courses(options)
            if seed in done[kind]:
                continue
            finished = run_study(kind, seed, interactions, split, options)
            if not finished:
                return
            volume = courses(options)[kind][seed].volumes[-1]
            print(f"{name_of(kind, seed)}: {volume:.4f}", file=sys.stderr, flush=True)


def run_study(kind: str, seed: int, interactions: Interactions, split: Split, options: argparse.Namespace) -> bool:
    """Run a study until its epochs are spent; return False if it was interrupted."""
    definition = define(kind, seed)
    executor = SerialExecutor(
        split, lambda split, _: make_joint_trainer(split, options.threads), definition.study.repeats
    )
    writer = open_writer(resolve_url(str(options.storage)), create=True)
    provenance = collect_provenance(interactions, split, {**executor.description(), "workers": 1})
    references = partial(evaluate_baselines, split, split.validation)
    create_study(writer, definition)
    study = begin_or_resume(writer, definition, provenance, references, trials=options.trials)
    pruner: Any = TrialPruner
    if kind == "random":
        rates = rates_of(find_study(writer, name_of("halving", seed)).get_trials(deepcopy=False))
        pruner = partial(RandomPruner, rates=rates, seed=seed)
    with catch_termination() as interrupt, patch("mtsearch.search.trial.TrialPruner", pruner):
        trials = TrialFactory(study, definition, interrupt)

        def is_over() -> bool:
            return spent(study) >= options.trials * EPOCHS or interrupt.requested

        run_trials(study, trials, executor, Budget(0, options.trials * EPOCHS), is_over, lambda _: None)
        return not interrupt.requested


def define(kind: str, seed: int) -> StudyDefinition:
    """Return the definition with fixed epochs, and a name, a seed and a pruner for one study."""
    raw = StudyDefinition.load(DEFINITION).resolved()
    del raw["space"]["epochs"]
    raw["fixed"]["epochs"] = EPOCHS
    raw["space"]["embedding_size"]["choices"].remove(96)
    raw["space"]["hidden_layers"]["choices"].remove("128-64")
    pruner = "none" if kind == "random" else kind
    raw["study"] |= {"name": name_of(kind, seed), "seed": seed, "pruner": {"kind": pruner}}
    return StudyDefinition.from_mapping(raw)


def name_of(kind: str, seed: int) -> str:
    """Return the name of a study, such as `halving 3`."""
    return f"{kind} {seed}"


def rates_of(trials: Sequence[FrozenTrial]) -> dict[int, float]:
    """Return by rung the share of the trials that reached it and were stopped there, without initial trials."""
    reached = {trial.number: len(trial.user_attrs[attributes.CURVE]) for trial in prunable(trials)}
    stopped = {t.number: t.user_attrs[attributes.PRUNED_AT] for t in trials if attributes.PRUNED_AT in t.user_attrs}
    rates = {}
    for rung in Rungs().up_to(EPOCHS - 1):
        there = sum(epochs >= rung for epochs in reached.values())
        rates[rung] = sum(epoch == rung for epoch in stopped.values()) / max(there, 1)
    return rates


def prunable(trials: Sequence[FrozenTrial]) -> Iterator[FrozenTrial]:
    """Yield the trials that could be stopped."""
    for trial in trials:
        if attributes.INITIAL_LABEL not in trial.user_attrs and attributes.CURVE in trial.user_attrs:
            yield trial


def spent(study: optuna.Study) -> int:
    """Return the number of epochs of all trials of a study."""
    return sum(len(trial.user_attrs.get(attributes.CURVE, ())) for trial in study.get_trials(deepcopy=False))


def courses(options: argparse.Namespace) -> Courses:
    """Return the courses of the studies whose epochs are spent."""
    found: Courses = {kind: {} for kind in KINDS}
    try:
        with reading_storage(resolve_url(str(options.storage))) as storage:
            known = set(optuna.get_all_study_names(storage))
            for kind in KINDS:
                for seed in options.seeds:
                    if name_of(kind, seed) in known:
                        study = find_study(storage, name_of(kind, seed))
                        if spent(study) >= options.trials * EPOCHS:
                            found[kind][seed] = course_of(study)
    except StudyNotFound:
        pass
    return found


def course_of(study: optuna.Study) -> Course:
    """Return the course of a study."""
    measure = results.results_of(study).volume
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.datetime_complete]
    points: list[tuple[float, ...]] = []
    epochs, seconds, volumes = [0], [0.0], [0.0]
    for trial in sorted(trials, key=lambda trial: (trial.datetime_complete, trial.number)):
        points += [row.values for row in complete_rows([trial])]
        epochs.append(epochs[-1] + len(trial.user_attrs.get(attributes.CURVE, ())))
        seconds.append(seconds[-1] + (trial.duration.total_seconds() if trial.duration else 0.0))
        volumes.append(measure(points))
    stopped = sum(attributes.PRUNED_AT in trial.user_attrs for trial in trials)
    return Course(epochs[1:], seconds[1:], volumes[1:], stopped)


def table(found: Courses) -> str:
    """Return a Markdown table with a row per kind: medians over the seeds that all kinds have."""
    seeds = sorted(set.intersection(*(set(found[kind]) for kind in KINDS)))
    heads = [f"{share:.0%} of the epochs" for share in SHARES] + [f"{share:.0%} of none's time" for share in SHARES]
    lines = [
        f"| pruner | seeds | trials | stopped | {' | '.join(heads)} | time | beats none | beats random |",
        "|--" * 13 + "|",
    ]
    for kind in KINDS:
        if not seeds:
            lines.append(f"| {kind} | 0 |{' |' * 11}")
            continue
        runs, whole = [found[kind][seed] for seed in seeds], [found["none"][seed] for seed in seeds]
        cells = [f"{statistics.median(values):.4f}" for values in zip(*map(by_budget, runs, whole), strict=True)]
        trials = statistics.median(len(course.volumes) for course in runs)
        stopped = statistics.median(course.stopped for course in runs)
        time = statistics.median(
            course.seconds[-1] / none.seconds[-1] for course, none in zip(runs, whole, strict=True)
        )
        last = {each: [by_budget(found[each][seed], found["none"][seed])[2] for seed in seeds] for each in KINDS}
        beats = [
            f"{sum(a > b for a, b in zip(last[kind], last[other], strict=True))} of {len(seeds)}"
            if kind != other
            else ""
            for other in ("none", "random")
        ]
        row = [kind, len(seeds), f"{trials:g}", f"{stopped:g}", *cells, f"{time:.0%}", *beats]
        lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def by_budget(course: Course, whole: Course) -> list[float]:
    """Return the hypervolume at each share of the epochs, then at each share of the time of the whole trials."""
    epochs, seconds = whole.epochs[-1], whole.seconds[-1]
    by_epochs = [course.at(course.epochs, share * epochs) for share in SHARES]
    return by_epochs + [course.at(course.seconds, share * seconds) for share in SHARES]


def figures(options: argparse.Namespace, found: Courses) -> dict[str, Any]:
    """Return the content of the JSON file: by kind and seed, budget spent and value reached after each trial."""
    by_kind = {kind: {seed: vars(course) for seed, course in found[kind].items()} for kind in KINDS}
    return {"definition": DEFINITION, "epochs": EPOCHS, "trials": options.trials, **by_kind}


if __name__ == "__main__":
    main()

"""Estimate what a trial costs before it runs: its seconds, and the memory of its softmax.

Training costs 6 operations per weight and row (2 forward, 4 backward). A row meets, for each task that it serves, D
weights of each item that a retrieval loss compares, or those of the layers of a head. The squared errors of all pairs
take 6 D operations per weight of both tables at each step in place of the former. A trial of `ml-100k-quick` took
0.84 s on 2 cores (tests/benchmarks/speed.py), everything included; this gives the rate below. Another machine, cache or
optimiser can change the rate several times over: the time left that `run` shows is measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from mtsearch.data import Interactions, Split
from mtsearch.errors import MachineError
from mtsearch.host import free_gpu_memory, free_memory, visible_gpus
from mtsearch.study_file.config import TrialConfig, default_of, in_order
from mtsearch.study_file.definition import StudyDefinition
from mtsearch.study_file.load import find_model_source
from mtsearch.study_file.space import Scalar
from mtsearch.study_file.tasks import kinds_of

OPERATIONS_PER_SECOND = 2.2e11
LEAST_SECONDS = 0.2
"""Time for sampling, storing and evaluating a trial, for any model."""


def trial_seconds(config: TrialConfig, split: Split) -> float:
    """Estimate the seconds of one training of `config` that runs all its epochs."""
    widths = (2 * config.embedding_size, *config.hidden_widths, 1)
    of_head = sum(first * second for first, second in pairwise(widths))
    operations = 0
    for task in split.tasks:
        rows, catalogue = split.task_rows[task.name], len(split.catalogue)
        if task.kind == "retrieval" and config.retrieval_loss == "squared":
            steps = math.ceil(len(split.train) / config.batch_size)
            operations += 6 * steps * (len(split.user_ids) + catalogue) * config.embedding_size**2
            continue
        compared = catalogue if config.retrieval_loss == "full" else min(config.batch_size, catalogue, rows)
        operations += 6 * rows * (config.embedding_size * compared if task.kind == "retrieval" else of_head)
    return LEAST_SECONDS + config.epochs * operations / OPERATIONS_PER_SECOND


def trial_seconds_range(definition: StudyDefinition, split: Split) -> tuple[float, float]:
    """Estimate the seconds of the cheapest and of the most expensive trial of a definition, with all repeats."""
    repeats = definition.study.repeats

    def cost(values: Mapping[str, Scalar]) -> float:
        return repeats * trial_seconds(definition.config(values), split)

    if not definition.space:
        costs = [cost(trial) for trial in definition.trials]
        return min(costs), max(costs)
    cheapest, dearest = definition.starting_point(), definition.starting_point()
    # NOTE: each parameter by itself is enough, since the cost falls or rises with each whatever the others are. Only
    # with the loss of retrieval it depends on it whether large batches cost more or less: the loss is chosen first.
    for name, parameter in sorted(definition.space.items(), key=lambda item: item[0] != "retrieval_loss"):
        values = parameter.extremes()
        cheapest[name] = min(values, key=lambda value: cost({**cheapest, name: value}))
        dearest[name] = max(values, key=lambda value: cost({**dearest, name: value}))
    return cost(cheapest), cost(dearest)


REMEDY = 'set retrieval_loss = "corrected", or lower batch_size'

_MATRICES = 1.1
"""Number of float32 matrices that a step of `full` holds for a task: a row for each user of a batch, a column for each
item.

NOTE: TensorFlow makes the exponentials in the place of the scores: the peak of loss and gradient is 1.05 of them.
"""


def memory_shortage(
    config: TrialConfig, users: int, candidates: int, free: int | None, rankings: int = 1
) -> str | None:
    """Return the reason why the softmax of `config` does not fit into memory; None if it fits or memory is unknown.

    Args:
        config: configuration of a trial.
        users: U, the number of users; a batch has at most that many.
        candidates: number of items, `Split.candidates`.
        free: free memory in bytes; None if unknown.
        rankings: number of tasks of retrieval, each of which has a softmax.
    """
    rows = min(config.batch_size, users)
    needed = int(_MATRICES * 4 * rows * candidates) * rankings
    if config.retrieval_loss != "full" or free is None or needed <= free:
        return None
    return (
        f'retrieval_loss = "full" compares {rows:,} users with {candidates:,} items at batch_size {config.batch_size}, '
        f"which takes {needed / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB are free"
    )


def require_memory(definition: StudyDefinition, users: int, candidates: int, workers: int = 1) -> None:
    """Refuse a definition with trials whose softmax does not fit into the memory of this machine.

    If the batch size is searched, the smallest one is checked: if only larger ones do not fit, only their trials fail.
    Workers share the memory of the machine; with GPUs, each worker is assumed to have a GPU to itself.

    Raises:
        MachineError: some trial does not fit.
    """
    if definition.model is not None:
        return
    free = free_gpu_memory() if visible_gpus() else free_memory() // workers
    rankings = list(kinds_of(definition.tasks).values()).count("retrieval")
    for values in _trials_to_check(definition):
        if shortage := memory_shortage(definition.config(values), users, candidates, free, rankings):
            raise MachineError(shortage, REMEDY)


def _trials_to_check(definition: StudyDefinition) -> Iterator[dict[str, Scalar]]:
    """Yield the initial trials and the starting point, with every retrieval loss that they leave open."""
    if not definition.space:
        yield from definition.trials
        return
    # The starting point stands for all sampled trials: only batch size and retrieval loss change what is needed.
    start = definition.starting_point()
    if "batch_size" in definition.space:
        start["batch_size"] = min(definition.space["batch_size"].extremes())
    losses: list[dict[str, Scalar]] = [{}]
    if "retrieval_loss" in definition.space:
        losses = [{"retrieval_loss": loss} for loss in definition.space["retrieval_loss"].extremes()]
    for trial in ({}, *definition.trials):
        for loss in losses:
            yield {**start, **loss, **trial}


def describe_study(definition: StudyDefinition, interactions: Interactions, split: Split) -> dict[str, Any]:
    """Describe a definition and its data as plain values: space, fixed values, sizes, and a rough time per trial."""
    custom, resolved = definition.model, definition.resolved()
    space = {name: resolved["space"][name] for name in in_order(definition.space)}
    fixed = {name: definition.fixed[name] for name in in_order(definition.fixed)}
    parts = {"train": split.train, "validation": split.validation, "set_aside": split.set_aside, "test": split.test}
    return {
        "study": definition.study.name,
        **({"model": {"factory": custom.factory, "file": str(find_model_source(custom).file)}} if custom else {}),
        "objectives": list(definition.study.objectives),
        "sampler": resolved["study"]["sampler"],
        "pruner": resolved["study"]["pruner"],
        "repeats": definition.study.repeats,
        "constraints": resolved.get("constraints", {}),
        "space": space,
        "starting_point": definition.starting_point(),
        "has_weights_1_1": definition.unit_weights() is not None,
        "fixed": {name: value for name, value in fixed.items() if value != default_of(name)},
        "listed_trials": [dict(trial) for trial in definition.trials],
        "data": {
            "source": definition.data.origin,
            "rows": len(interactions.rows),
            "users": len(interactions.user_ids),
            "items": len(interactions.item_ids),
            "catalogue": len(split.catalogue),
        },
        "split": {name: len(part) for name, part in parts.items() if part is not None},
        **({} if custom else _rough_time(*trial_seconds_range(definition, split))),
    }


def _rough_time(cheapest: float, dearest: float) -> dict[str, Any]:
    """Return the estimated times as the entry of the description that holds them."""
    return {"rough_seconds_of_a_trial": {"cheapest": round(cheapest, 1), "dearest": round(dearest, 1)}}

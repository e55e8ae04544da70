"""Results of studies, made by hand."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from mtsearch.metrics import METRICS
from mtsearch.search.pareto import FrontRow
from mtsearch.search.results import Failure, StudyResults, TrialTime
from mtsearch.study_file.tasks import stored_metrics

OBJECTIVES = {
    1: ("rmse",),
    2: ("rmse", "top_100"),
    3: ("rmse", "top_100", "coverage"),
    4: ("rmse", "top_100", "coverage", "ndcg_10"),
}
"""Keys of so many."""

BASELINES = {
    "chance": {"rmse": 1.129, "top_100": 0.060, "mae": 0.944},
    "popularity": {"rmse": 1.129, "top_100": 0.295, "mae": 0.944},
    "biases": {"rmse": 0.942, "top_100": 0.183, "mae": 0.744},
}
MORE = {
    "chance": {"coverage": 0.21, "ndcg_10": 0.004},
    "popularity": {"coverage": 0.09, "ndcg_10": 0.061},
    "biases": {"coverage": 0.33, "ndcg_10": 0.047},
}
"""What the baselines reach in the objectives beyond the second."""
HOSTILE = "<img src=x onerror=alert(1)> & </script><script>alert(2)</script> [red]x[/red] $HOME"


def row(trial: int, *values: float, **params: Any) -> FrontRow:
    """A trial that reached these values of the first of `OBJECTIVES[4]`."""
    searched = params or {"loss_ratio": 0.25, "embedding_size": 64, "learning_rate": 0.1234567}
    return FrontRow(trial, values, searched, {**dict(zip(OBJECTIVES[4], values, strict=False)), "mae": 0.7654321})


def results(rows: Iterable[FrontRow] = (), objectives: Sequence[str] = OBJECTIVES[2], **changes: Any) -> StudyResults:
    """A study of these rows, with the baselines unless `changes` says otherwise."""
    kept = tuple(rows)
    baselines = {name: {**MORE[name], **values} for name, values in BASELINES.items()}
    plain = StudyResults(
        name="ml-100k",
        objectives=tuple(METRICS[key] for key in objectives),
        rows=kept,
        counting=len(kept),
        states={"complete": len(kept)},
        failures=(),
        configs={},
        baselines=baselines if len(objectives) > 2 else BASELINES,
        definition={"study": {"name": "ml-100k", "objectives": list(objectives)}, "space": {}},
        provenance={"data": {"fingerprint": "5f3c", "rows": 100_000}, "packages": {"tensorflow": "2.21.0"}},
        begun=datetime(2025, 3, 1, 9, 30),
        ended=datetime(2025, 3, 1, 9, 42),
    )
    return replace(plain, **changes)


TASKS = {
    "view": {"kind": "retrieval", "where": "event = 'view'"},
    "purchase": {"kind": "retrieval", "where": "event = 'purchase'"},
    "stars": {"kind": "rating", "target": "points"},
}
TASK_KEYS = {
    "rmse": "stars.rmse",
    "mae": "stars.mae",
    "top_100": "purchase.top_100",
    "mrr": "purchase.mrr",
    "coverage": "view.coverage",
    "ndcg_10": "view.ndcg_10",
}
"""The keys in a study of `TASKS`, by the bare ones."""


def with_tasks(study: StudyResults) -> StudyResults:
    """The same numbers in a study of `TASKS`, whose metrics have the task in their keys."""

    def named(values: Mapping[str, Any]) -> dict[str, Any]:
        return {TASK_KEYS[key]: value for key, value in values.items()}

    objectives = [TASK_KEYS[metric.key] for metric in study.objectives]
    definition = {
        **study.definition,
        "study": {**study.definition["study"], "objectives": objectives},
        "tasks": TASKS,
    }
    metrics = stored_metrics(definition)
    return replace(
        study,
        objectives=tuple(metrics[key] for key in objectives),
        definition=definition,
        rows=tuple(replace(each, metrics=named(each.metrics)) for each in study.rows),
        baselines={name: named(values) for name, values in study.baselines.items()},
        curves={
            number: [{**epoch, "metrics": named(epoch["metrics"])} for epoch in epochs]
            for number, epochs in study.curves.items()
        },
        importances=named(study.importances),
    )


def realistic(seed: int = 0, trials: int = 50, objectives: Sequence[str] = OBJECTIVES[2]) -> StudyResults:
    """Complete trials of a two-loss model, the last with an RMSE of 500, and two failures."""
    random = np.random.default_rng(seed)
    rows = [_sampled(number, random, objectives) for number in range(trials - 1)]
    diverged = row(trials - 1, *(500.0, 0.07, 0.05, 0.01)[: len(objectives)])
    failed = (
        Failure(trials, "non-finite loss at epoch 2, step 14; lower learning_rate", counted=True),
        Failure(trials + 1, "ended from outside", counted=False),
    )
    states = {"complete": trials, "fail": 2}
    return results([*rows, diverged], objectives, failures=failed, states=states, counting=trials + 1)


def with_history(study: StudyResults, epochs: int = 10) -> StudyResults:
    """Make the realistic study with learning curves, times, importances and a space; trials take 8 to 10 s."""
    begun = datetime(2025, 3, 1, 9, 30)
    curves = {each.trial: [_epoch(study, each, epoch) for epoch in range(1, epochs + 1)] for each in study.rows}
    times = {
        each.trial: TrialTime(
            begun + timedelta(seconds=10 * each.trial),
            begun + timedelta(seconds=10 * each.trial + 8 + each.trial % 3),
            {"prepare": 1.0 + each.trial % 2, "train": 5.0, "evaluate": 1.0},
        )
        for each in study.rows
    }
    space = {
        "loss_ratio": {"low": -2.0, "high": 2.0},
        "embedding_size": {"choices": [16, 32, 64, 128]},
        "learning_rate": {"low": 0.01, "high": 1.0, "log": True},
    }
    shares = {"loss_ratio": 0.6, "learning_rate": 0.3, "embedding_size": 0.1}
    return replace(
        study,
        curves=curves,
        times=times,
        importances={metric.key: shares for metric in study.objectives},
        definition={**study.definition, "space": space},
    )


def _epoch(study: StudyResults, row: FrontRow, epoch: int) -> dict[str, Any]:
    """The later, the better."""
    metrics = {
        metric.key: value + 0.3 / epoch if metric.direction == "minimize" else value - 0.05 / epoch
        for metric, value in zip(study.objectives, row.values, strict=True)
    }
    return {"epoch": epoch, "metrics": metrics}


def repeated(seeds: int = 3, objectives: Sequence[str] = OBJECTIVES[2]) -> StudyResults:
    """The realistic study, each trial the mean over seeds whose objectives lie around its own."""
    study, random = realistic(objectives=objectives), np.random.default_rng(1)
    metrics = {}
    for each in study.rows:
        scales = [0.012 if key == "rmse" else 0.006 for key in objectives]
        drawn = [value + random.normal(0, scale, seeds) for value, scale in zip(each.values, scales, strict=True)]
        metrics[each.trial] = [dict(zip(objectives, seed, strict=True)) for seed in zip(*drawn, strict=True)]
    return replace(study, repeats=metrics)


def with_drawn_users(objectives: Sequence[str] = OBJECTIVES[2]) -> StudyResults:
    """The realistic study, judged on 300 of 943 users."""
    study = realistic(objectives=objectives)
    fixed = {"top_100": 0.005, **dict.fromkeys(objectives[2:], 0.004), "mae": 0.008}
    errors = {each.trial: {"rmse": 0.01 + each.trial / 1e4, **fixed} for each in study.rows}
    split = {"validation_users": 300, "validation_users_drawn_from": 943}
    return replace(study, standard_errors=errors, provenance={**study.provenance, "split": split})


def _sampled(number: int, random: np.random.Generator, objectives: Sequence[str]) -> FrontRow:
    """The more weight on retrieval, the better the top 100 and the worse the RMSE; a bad learning rate spoils both.

    The coverage suffers from weight on retrieval too, less with large embeddings.
    """
    ratio = random.uniform(-2, 2)
    spoiled = random.exponential(0.3)
    share = 1 / (1 + np.exp(-1.5 * ratio))
    rmse = 0.93 + 0.14 * share**2 + 0.12 * spoiled
    top = 0.06 + 0.25 * share ** (0.4 + spoiled)
    params = {
        "loss_ratio": float(ratio),
        "embedding_size": int(random.choice([16, 32, 64, 128])),
        "learning_rate": float(0.1 * np.exp(-spoiled)),
    }
    metrics = {"rmse": float(rmse), "top_100": float(top), "mae": float(0.79 * rmse), "mrr": float(top / 6)}
    more = {
        "coverage": float(0.15 + 0.6 * (1 - share) ** 2 * (params["embedding_size"] / 128) ** 0.3),
        "ndcg_10": float(top * (0.3 + 0.1 * np.cos(3 * ratio))),
    }
    metrics |= {key: value for key, value in more.items() if key in objectives}
    return FrontRow(number, tuple(metrics[key] for key in objectives), params, metrics)


def hostile(objectives: Sequence[str] = OBJECTIVES[2]) -> StudyResults:
    """A realistic study whose every text tries to be markup."""
    study = realistic(objectives=objectives)
    rows = [replace(r, params={**r.params, HOSTILE: HOSTILE}, metrics={**r.metrics, HOSTILE: 1.0}) for r in study.rows]
    return replace(
        study,
        name=HOSTILE,
        rows=tuple(rows),
        baselines={**study.baselines, HOSTILE: {"rmse": 0.94, "top_100": 0.301, "coverage": 0.4, "ndcg_10": 0.07}},
        failures=(Failure(50, HOSTILE, counted=True),),
        states={HOSTILE: 3},
        definition={HOSTILE: {HOSTILE: [HOSTILE]}},
        provenance={HOSTILE: HOSTILE},
    )

"""Study records made by hand."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from mtsearch.objectives import METRICS
from mtsearch.search.front import FrontRow
from mtsearch.search.record import Failure, StudyRecord, TrialTime

BASELINES = {
    "chance": {"rmse": 1.129, "top_100": 0.060, "mae": 0.944},
    "popularity": {"rmse": 1.129, "top_100": 0.295, "mae": 0.944},
    "biases": {"rmse": 0.942, "top_100": 0.183, "mae": 0.744},
}
HOSTILE = "<img src=x onerror=alert(1)> & </script><script>alert(2)</script> [red]x[/red] $HOME"


def row(trial: int, first: float, second: float, **params: Any) -> FrontRow:
    searched = params or {"loss_ratio": 0.25, "embedding_size": 64, "learning_rate": 0.1234567}
    return FrontRow(trial, (first, second), searched, {"rmse": first, "top_100": second, "mae": 0.7654321})


def record(
    rows: Iterable[FrontRow] = (), objectives: Sequence[str] = ("rmse", "top_100"), **changes: Any
) -> StudyRecord:
    """A study of these rows, with the baselines unless `changes` says otherwise."""
    kept = tuple(rows)
    plain = StudyRecord(
        name="ml-100k",
        objectives=(METRICS[objectives[0]], METRICS[objectives[1]]),
        rows=kept,
        counting=len(kept),
        states={"complete": len(kept)},
        failures=(),
        configs={},
        baselines=BASELINES,
        definition={"study": {"name": "ml-100k", "objectives": list(objectives)}, "space": {}},
        passport={"data": {"fingerprint": "5f3c", "rows": 100_000}, "packages": {"tensorflow": "2.21.0"}},
        begun=datetime(2025, 3, 1, 9, 30),
        ended=datetime(2025, 3, 1, 9, 42),
    )
    return replace(plain, **changes)


def realistic(seed: int = 0, trials: int = 50) -> StudyRecord:
    """Complete trials of a two-loss model, the last with an RMSE of 500, and two failures."""
    random = np.random.default_rng(seed)
    rows = [_sampled(number, random) for number in range(trials - 1)]
    failed = (
        Failure(trials, "non-finite loss at epoch 2, step 14; lower learning_rate", counted=True),
        Failure(trials + 1, "ended from outside", counted=False),
    )
    states = {"complete": trials, "fail": 2}
    return record([*rows, row(trials - 1, 500.0, 0.07)], failures=failed, states=states, counting=trials + 1)


def with_history(study: StudyRecord, epochs: int = 10) -> StudyRecord:
    """The same with learning curves, times, importances and a space: 10 s from begin to begin, 8 to 10 s each."""
    begun = datetime(2025, 3, 1, 9, 30)
    curves = {each.trial: [_epoch(each, epoch) for epoch in range(1, epochs + 1)] for each in study.rows}
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


def _epoch(row: FrontRow, epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "metrics": {"rmse": row.values[0] + 0.3 / epoch, "top_100": row.values[1] - 0.05 / epoch}}


def repeated(seeds: int = 3) -> StudyRecord:
    """The realistic study, each trial the mean over seeds whose objectives lie around its own."""
    study, random = realistic(), np.random.default_rng(1)
    metrics = {
        each.trial: [
            {"rmse": each.values[0] + rmse, "top_100": each.values[1] + top}
            for rmse, top in zip(random.normal(0, 0.012, seeds), random.normal(0, 0.006, seeds), strict=True)
        ]
        for each in study.rows
    }
    return replace(study, repeats=metrics)


def of_some_users() -> StudyRecord:
    """The realistic study, judged on 300 of 943 users."""
    study = realistic()
    errors = {each.trial: {"rmse": 0.01 + each.trial / 1e4, "top_100": 0.005, "mae": 0.008} for each in study.rows}
    split = {"validation_users": 300, "validation_users_drawn_from": 943}
    return replace(study, standard_errors=errors, passport={**study.passport, "split": split})


def _sampled(number: int, random: np.random.Generator) -> FrontRow:
    """The more weight on retrieval, the better the top 100 and the worse the RMSE; a bad learning rate spoils both."""
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
    return FrontRow(number, (float(rmse), float(top)), params, metrics)


def hostile() -> StudyRecord:
    """A realistic study whose every text tries to be markup."""
    study = realistic()
    rows = [replace(r, params={**r.params, HOSTILE: HOSTILE}, metrics={**r.metrics, HOSTILE: 1.0}) for r in study.rows]
    return replace(
        study,
        name=HOSTILE,
        rows=tuple(rows),
        baselines={**BASELINES, HOSTILE: {"rmse": 0.94, "top_100": 0.301}},
        failures=(Failure(50, HOSTILE, counted=True),),
        states={HOSTILE: 3},
        definition={HOSTILE: {HOSTILE: [HOSTILE]}},
        passport={HOSTILE: HOSTILE},
    )

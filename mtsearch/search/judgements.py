"""What a front reaches on the test rows: kept in its study one training at a time, so that a report goes on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import optuna

from mtsearch.search.attributes import PASSPORT, REPORT
from mtsearch.signals import signals_deferred

_TRAINING = re.compile(rf"{REPORT}(\d+):(\d+)", re.ASCII)
_BASELINES = f"{REPORT}baselines"


@dataclass(frozen=True)
class Judged:
    """One training of a trial's configuration on training and validation rows, judged once on the test rows.

    Attributes:
        metrics: on the test rows; empty where it failed.
        failure: why it failed; empty where it did not.
    """

    metrics: Mapping[str, float]
    failure: str = ""


class Judgements:
    """Where the judgements of a study go.

    Args:
        study: one that mtsearch made, in a storage that can be written.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._rows = _rows(study.user_attrs)

    def keep(self, trial: int, seed: int, judged: Judged) -> None:
        """Keep one training; one of the same trial and seed is replaced."""
        reached = {"failure": judged.failure} if judged.failure else {"metrics": dict(judged.metrics)}
        self._write(f"{REPORT}{trial}:{seed}", reached)

    def keep_baselines(self, baselines: Mapping[str, Mapping[str, float]]) -> None:
        """Keep what needs no search, on the test rows."""
        self._write(_BASELINES, {"metrics": {name: dict(metrics) for name, metrics in baselines.items()}})

    def _write(self, key: str, values: Mapping[str, Any]) -> None:
        with signals_deferred():
            self._study.set_user_attr(key, {**self._rows, "mtsearch": version("mtsearch"), **values})


def judged_of(stored: Mapping[str, Any]) -> dict[int, dict[int, Judged]]:
    """By trial and seed, what a study's attributes hold; what was judged on other rows than the study's is left out."""
    found: dict[int, dict[int, Judged]] = {}
    for key, value in stored.items():
        if (match := _TRAINING.fullmatch(key)) and _is_of(stored, value):
            judged = Judged(value.get("metrics", {}), value.get("failure", ""))
            found.setdefault(int(match[1]), {})[int(match[2])] = judged
    return found


def baselines_on_test(stored: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The baselines on the test rows; empty before a report."""
    value = stored.get(_BASELINES, {})
    return value["metrics"] if value and _is_of(stored, value) else {}


def _is_of(stored: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return all(value.get(part) == fingerprint for part, fingerprint in _rows(stored).items())


def _rows(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Which rows a study's numbers are of: fingerprints of its data and its split."""
    passport = stored.get(PASSPORT, {})
    return {part: passport.get(part, {}).get("fingerprint") for part in ("data", "split")}

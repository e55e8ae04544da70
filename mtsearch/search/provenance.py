"""Provenance of a run: the data, split, versions and machine behind its numbers, and differences between runs."""

import logging
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from mtsearch.data import Interactions, Split
from mtsearch.host import usable_cores
from mtsearch.search.attributes import PROVENANCE, RUN

_PACKAGES = ("mtsearch", "numpy", "optuna", "sqlalchemy", "tensorflow", "tensorflow-recommenders", "tf-keras")
_GIT_SECONDS = 5

_logger = logging.getLogger("mtsearch")


def collect_provenance(interactions: Interactions, split: Split, trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything beside the definition that the numbers of a run depend on, as a JSON object.

    Args:
        interactions: the ratings.
        split: of them.
        trainer: the trainer's description of itself: device, threads.
    """
    validation = split.validation
    return {
        "data": {
            "fingerprint": interactions.fingerprint,
            "rows": len(interactions.rows),
            "users": len(interactions.user_ids),
            "items": len(interactions.item_ids),
        },
        "split": {
            "fingerprint": split.fingerprint,
            "train": len(split.train),
            "validation": len(split.validation),
            "test": len(split.test),
            "catalogue": len(split.catalogue),
            "validation_rows_of_unknown_users": int(np.count_nonzero(~split.known_users[validation.users])),
            "validation_rows_of_unknown_items": int(np.count_nonzero(~split.known_items[validation.items])),
            "validation_rows_outside_catalogue": int(np.count_nonzero(~np.isin(validation.items, split.catalogue))),
            **_count_sampled_users(split),
        },
        "feedback": interactions.report.feedback,
        "trainer": dict(trainer),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": usable_cores(),
        "commit": _find_commit(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _count_sampled_users(split: Split) -> dict[str, int]:
    """Return the number of sampled validation users and of all of them; empty without a sample, as in old studies."""
    if split.drawn_from is None:
        return {}
    return {"validation_users": split.validation_users, "validation_users_drawn_from": split.drawn_from}


def store_run(study: optuna.Study, provenance: Mapping[str, Any]) -> None:
    """Store the provenance of a run if it differs from the last one, and warn of differences from the first run."""
    for line in find_differences(study.user_attrs[PROVENANCE], provenance):
        _logger.warning("this run differs from the one that began the study: %s", line)
    runs = stored_runs(study)
    if not runs or {**runs[-1], "begun": None} != {**provenance, "begun": None}:
        begun = datetime.now(UTC).isoformat()
        # Each run has its own key, so that two runs that begin at once do not overwrite each other's provenance.
        study.set_user_attr(f"{RUN}{begun}", {"begun": begun, **provenance})


def stored_runs(study: optuna.Study) -> list[dict[str, Any]]:
    """Return the stored provenance of the runs in order, each with the UTC time of its begin as `begun`.

    A run with the same provenance as the one before it is not stored.
    """
    stored = study.user_attrs
    return [stored[key] for key in sorted(stored) if key.startswith(RUN)]


def find_differences(stored: Mapping[str, Any], present: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield a line `key: stored -> present` for each value that differs between two nested mappings."""
    for key in {**stored, **present}:
        place = f"{path}{key}"
        old, new = stored.get(key), present.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from find_differences(old, new, f"{place}.")
        elif old != new:
            yield f"{place}: {_format_value(old)} -> {_format_value(new)}"


def _find_commit() -> str | None:
    """Return the git commit of the checkout that mtsearch runs from; None if mtsearch is installed.

    It ends in `-dirty` if files differ from the commit.
    """
    checkout = Path(str(files("mtsearch"))).parent
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    # The user's environment may name another repository; and git must not lock this one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _format_value(value: object) -> str:
    return "nothing" if value is None else str(value)

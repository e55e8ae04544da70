"""The passport: what a study was run with, and whether another run may go on with it."""

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
from mtsearch.machine import usable_cores
from mtsearch.search.attributes import PASSPORT, RUN

_PACKAGES = ("mtsearch", "numpy", "optuna", "sqlalchemy", "tensorflow", "tensorflow-recommenders", "tf-keras")
_GIT_SECONDS = 5

MODEL_SOURCE = "model_source"
"""What a trainer says beside its device and its threads: the fingerprint of the text of a user's own model."""

_logger = logging.getLogger("mtsearch")


def make_passport(interactions: Interactions, split: Split, trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Everything beside the definition that the numbers depend on.

    Args:
        interactions: the table.
        split: of it.
        trainer: what the trainer says of itself: device, threads.
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
            **_drawn(split),
        },
        "feedback": interactions.reading.feedback,
        "trainer": dict(trainer),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": usable_cores(),
        "commit": _commit(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _drawn(split: Split) -> dict[str, int]:
    """Where users were drawn to validate on, how many of how many; else nothing, as in studies of a time before."""
    if split.drawn_from is None:
        return {}
    return {"validation_users": split.validation_users, "validation_users_drawn_from": split.drawn_from}


def record_run(study: optuna.Study, passport: Mapping[str, Any]) -> None:
    """Keep the passport of a run that is not the one that was kept last, and say what differs from the first."""
    for line in differences(study.user_attrs[PASSPORT], passport):
        _logger.warning("this run differs from the one that began the study: %s", line)
    runs = runs_of(study)
    if not runs or {**runs[-1], "begun": None} != {**passport, "begun": None}:
        begun = datetime.now(UTC).isoformat()
        # A key of its own: of two runs that begin at once neither overwrites the other's.
        study.set_user_attr(f"{RUN}{begun}", {"begun": begun, **passport})


def runs_of(study: optuna.Study) -> list[dict[str, Any]]:
    """The passports of the runs, each with the UTC time of its `begun`; a run like the one before it has none."""
    stored = study.user_attrs
    return [stored[key] for key in sorted(stored) if key.startswith(RUN)]


def differences(stored: Mapping[str, Any], present: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """`key: stored -> present` for each value that differs between two nested mappings."""
    for key in {**stored, **present}:
        place = f"{path}{key}"
        old, new = stored.get(key), present.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{place}.")
        elif old != new:
            yield f"{place}: {_shown(old)} -> {_shown(new)}"


def _commit() -> str | None:
    """Of the checkout that mtsearch runs from, `-dirty` where files differ from it; None where it is installed."""
    checkout = Path(str(files("mtsearch"))).parent
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    # Neither another repository of the user's, nor a lock in this one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)

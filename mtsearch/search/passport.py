"""The passport: what a study was run with, and whether another run may go on with it."""

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from mtsearch.data import Interactions, Split
from mtsearch.evaluation import Evaluator

_PACKAGES = ("mtsearch", "numpy", "optuna", "sqlalchemy", "tensorflow", "tensorflow-recommenders", "tf-keras")


def make_passport(interactions: Interactions, split: Split, trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Everything beside the definition that the numbers depend on.

    Args:
        interactions: the table.
        split: of it.
        trainer: what the trainer says of itself: device, threads.
    """
    evaluator = Evaluator(split, split.validation)
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
            "validation_rows_of_unknown_users": evaluator.unknown_user_rows,
            "validation_rows_of_unknown_items": evaluator.unknown_item_rows,
            "validation_rows_outside_catalogue": evaluator.outside_catalogue_rows,
        },
        "trainer": dict(trainer),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": {name: version(name) for name in _PACKAGES},
    }


def differences(stored: Mapping[str, Any], present: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """`key: stored -> present` for each value that differs between two nested mappings."""
    for key in {**stored, **present}:
        place = f"{path}{key}"
        old, new = stored.get(key), present.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{place}.")
        elif old != new:
            yield f"{place}: {_shown(old)} -> {_shown(new)}"


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)

"""Multi-objective hyperparameter search for recommenders that learn ratings and retrieval at once."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Export", "Retrained", "StudyDefinition", "StudyRecord", "TrialConfig", "TrialEnd", "baselines", "compare",
           "delete", "export", "front", "prepare", "rename", "report_on", "retrain", "run", "studies",
           "upgrade"]  # fmt: skip

if TYPE_CHECKING:
    from mtsearch.api import (
        baselines,
        compare,
        delete,
        export,
        front,
        prepare,
        rename,
        report_on,
        run,
        studies,
        upgrade,
    )
    from mtsearch.config import TrialConfig
    from mtsearch.definition import StudyDefinition
    from mtsearch.export_file import Export
    from mtsearch.retraining import Retrained, retrain
    from mtsearch.search.record import StudyRecord
    from mtsearch.search.runner import TrialEnd

_HOMES = {
    "Export": "mtsearch.export_file",
    "Retrained": "mtsearch.retraining",
    "StudyDefinition": "mtsearch.definition",
    "StudyRecord": "mtsearch.search.record",
    "TrialConfig": "mtsearch.config",
    "TrialEnd": "mtsearch.search.runner",
    "retrain": "mtsearch.retraining",
} | dict.fromkeys(("baselines", "compare", "delete", "export", "front", "prepare", "rename", "report_on", "run",
                   "studies", "upgrade"), "mtsearch.api")  # fmt: skip


def __getattr__(name: str) -> Any:
    # NOTE: imported when asked for, since Optuna alone takes 0.3 s and `mtsearch --help` must not pay for it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)

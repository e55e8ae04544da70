"""Multi-objective hyperparameter search for multi-task recommenders: the public names of the package."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mtsearch.api import (
        add_baselines,
        baselines,
        check,
        compare,
        delete,
        export,
        front,
        load_model,
        load_study,
        plot,
        predict,
        prepare,
        recommend,
        rename,
        report_on,
        retrain,
        run,
        serve,
        studies,
        upgrade,
    )
    from mtsearch.report import Study
    from mtsearch.retraining import Retrained
    from mtsearch.search.trial import TrialEnd
    from mtsearch.study_file.config import TrialConfig
    from mtsearch.study_file.definition import StudyDefinition
    from mtsearch.study_file.export import Export

__all__ = [
    "Export",
    "Retrained",
    "Study",
    "StudyDefinition",
    "TrialConfig",
    "TrialEnd",
    "add_baselines",
    "baselines",
    "check",
    "compare",
    "delete",
    "export",
    "front",
    "load_model",
    "load_study",
    "plot",
    "predict",
    "prepare",
    "recommend",
    "rename",
    "report_on",
    "retrain",
    "run",
    "serve",
    "studies",
    "upgrade",
]

_MODULES = {
    "Export": "mtsearch.study_file.export",
    "Retrained": "mtsearch.retraining",
    "Study": "mtsearch.report",
    "StudyDefinition": "mtsearch.study_file.definition",
    "TrialConfig": "mtsearch.study_file.config",
    "TrialEnd": "mtsearch.search.trial",
}


def __getattr__(name: str) -> Any:
    # NOTE: a name's module is imported when the name is first read: Optuna alone takes 0.3 s to import, and
    # `mtsearch --help` must not wait for it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES.get(name, "mtsearch.api")), name)

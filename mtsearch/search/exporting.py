"""From a chosen trial of a study to its `Export`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mtsearch.config import TrialConfig
from mtsearch.definition import DataSection, ModelSection, SplitSection
from mtsearch.errors import StorageError
from mtsearch.export_file import Export, Provenance
from mtsearch.search.choosing import Choice
from mtsearch.search.passport import MODEL_SOURCE
from mtsearch.search.record import StudyRecord
from mtsearch.study_file.mistakes import all_mistakes

Model = TypeVar("Model", bound=BaseModel)


def export_of(record: StudyRecord, choice: Choice) -> Export:
    """The configuration that was chosen, as it was stored; fields that are newer than it have their defaults.

    Raises:
        StorageError: what is stored is not as this version writes it.
    """
    number, definition, study = choice.row.trial, record.definition, record.definition["study"]
    config = _stored(TrialConfig, record.configs.get(number), record, f"configuration of trial {number}")
    passport = record.passport_of(number)
    trainer = passport.get("trainer", {})
    provenance = {
        "study": record.name,
        "trial": number,
        "pick": choice.asked,
        "objectives": [metric.key for metric in record.objectives],
        "best_epoch": record.best_epochs.get(number, config.epochs),
        "repeats": max(1, len(record.repeats.get(number, ()))),
        "data_fingerprint": passport.get("data", {}).get("fingerprint"),
        "split_fingerprint": passport.get("split", {}).get("fingerprint"),
        "source_fingerprint": trainer.get(MODEL_SOURCE),
        "study_seed": study.get("seed"),
        "threads": trainer.get("threads"),
        "device": trainer.get("device"),
        "python": passport.get("python"),
        "exported": datetime.now(UTC).replace(microsecond=0),
        "exported_by": version("mtsearch"),
        "metrics": dict(choice.row.metrics),
        "params": dict(choice.row.params),
        "packages": dict(passport.get("packages", {})),
    }
    return Export(
        config=config,
        model=_stored(ModelSection, model, record, "[model]") if (model := definition.get("model")) else None,
        data=_stored(DataSection, definition.get("data", {}), record, "[data]"),
        split=_stored(SplitSection, definition.get("split", {}), record, "[split]"),
        provenance=_stored(Provenance, provenance, record, "passport"),
    )


def _stored(model: type[Model], stored: Mapping[str, Any] | None, record: StudyRecord, what: str) -> Model:
    raw = dict(stored or {})
    if stored is None:
        raise StorageError(f"study {record.name}: {what} is not stored", "choose another trial")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problem = f"study {record.name}: {what}: {all_mistakes(error, raw, model)[0]}"
        raise StorageError(problem, "a newer mtsearch may have stored it: upgrade") from None

"""Whether a run may go on with a study that is there, and as what."""

import logging
from collections.abc import Mapping
from typing import Any

import optuna

from mtsearch.definition import StudyDefinition, StudySection
from mtsearch.errors import StudyMismatch
from mtsearch.search.attributes import DEFINITION, PASSPORT, WARM_START
from mtsearch.search.passport import MODEL_SOURCE, differences
from mtsearch.study_file.searchable import FIELDS, default_of

_OPTIONS = ("seed", "sampler", "pruner")
_logger = logging.getLogger("mtsearch")


def as_begun(study: optuna.Study, definition: StudyDefinition) -> StudyDefinition:
    """The definition, its seed, sampler and pruner the study's where neither the file nor an option names them."""
    stored, present = study.user_attrs[DEFINITION]["study"], definition.resolved()["study"]
    named = definition.study.model_fields_set
    taken = {key: stored[key] for key in _OPTIONS if key not in named and stored.get(key, present[key]) != present[key]}
    if not taken:
        return definition
    changed = ", ".join(differences({key: present[key] for key in taken}, taken))
    _logger.info("study %s goes on as it was begun: %s", study.study_name, changed)
    section = StudySection.model_validate({**present, **taken})
    return definition.model_copy(update={"study": section})


def require_same_definition(study: optuna.Study, definition: StudyDefinition, warm_start: str | None) -> None:
    """The same definition, begun from the same study where one is named.

    Raises:
        StudyMismatch: another one; the message names each difference.
    """
    found = list(differences(_comparable(study.user_attrs[DEFINITION]), _comparable(definition.resolved())))
    begun_from = study.user_attrs.get(WARM_START)
    if warm_start is not None and warm_start != begun_from:
        found += differences({"warm start": begun_from}, {"warm start": warm_start})
    _refuse(study, found)


def require_same_data(study: optuna.Study, passport: Mapping[str, Any]) -> None:
    """The same data and split, and the same text of a model of the user's own.

    Raises:
        StudyMismatch: others; the message names each difference.
    """
    stored: Mapping[str, Any] = study.user_attrs[PASSPORT]
    parts = ("data", "split")
    found = [f"{part} {line}" for part in parts for line in differences(stored[part], passport[part])]
    before, now = ({"model": each["trainer"].get(MODEL_SOURCE)} for each in (stored, passport))
    _refuse(study, [*found, *differences(before, now)])


def _refuse(study: optuna.Study, found: list[str]) -> None:
    if found:
        raise StudyMismatch(
            f"study {study.study_name!r} was begun with another definition or other data ({'; '.join(found)})",
            "give the new one a name with --study NAME, or undo the difference",
        )


def _comparable(definition: Mapping[str, Any]) -> dict[str, Any]:
    """What the numbers depend on: the same data may be had from several places, as their fingerprint tells."""
    study = {"pruner": {"kind": "none"}, **definition["study"]}  # a study of a time without pruners has none
    unsaid = {name: default_of(name) for name in FIELDS if name not in definition.get("space", {})}
    return {key: value for key, value in definition.items() if key not in ("data", "published", "model")} | {
        "study": study,
        "fixed": {**unsaid, "seed": study["seed"], **definition.get("fixed", {})},
        "model": {**definition.get("model", {}), "folder": None},
    }

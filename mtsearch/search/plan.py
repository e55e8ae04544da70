"""What a run will do, known before ratings are loaded and anything is written."""

from contextlib import suppress
from typing import Any

from optuna.storages import BaseStorage

from mtsearch.definition import StudyDefinition
from mtsearch.errors import StudyNotFound
from mtsearch.search import record
from mtsearch.search.attributes import DEFINITION
from mtsearch.search.listed import WarmStart, warm_start_from
from mtsearch.search.resume import as_begun, require_same_definition
from mtsearch.search.storage import reading, require_writable
from mtsearch.search.study import find, ours
from mtsearch.study_file.mistakes import shown


def stored_definition(url: str, name: str) -> dict[str, Any] | None:
    """What a study in the storage was begun with, as a mapping to build from; None where there is no such study."""
    with suppress(StudyNotFound), reading(url) as storage:
        definition: dict[str, Any] = find(storage, name).user_attrs[DEFINITION]
        return definition
    return None


def plan(url: str, definition: StudyDefinition, warm_start: str | None) -> tuple[StudyDefinition, WarmStart | None]:
    """The definition as the study was begun with it, where it is there, and another study's front to begin with.

    Args:
        url: of the storage, which need not exist.
        definition: of the run.
        warm_start: name of a study in the same storage.

    Raises:
        StudyMismatch: the study has another definition, or nothing of the other study's front can be used.
        StudyNotFound: the storage has no study `warm_start`.
        StorageError: the storage cannot be reached or written.
    """
    require_writable(url)
    is_there = False
    try:
        with reading(url) as storage:
            is_there = True
            return _plan(storage, definition, warm_start)
    except StudyNotFound as error:
        if warm_start is None:
            return definition, None
        if is_there:
            raise
        problem = f"there is no study {shown(warm_start)} to start from: {error.problem}"
        raise StudyNotFound(problem, "name the storage that holds it with --storage") from None


def _plan(
    storage: BaseStorage, definition: StudyDefinition, warm_start: str | None
) -> tuple[StudyDefinition, WarmStart | None]:
    begun = [study for study in ours(storage) if study.study_name == definition.study.name]
    if begun:
        definition = as_begun(begun[0], definition)
        require_same_definition(begun[0], definition, warm_start)
        return definition, WarmStart(warm_start) if warm_start is not None else None
    if warm_start is None:
        return definition, None
    return definition, warm_start_from(warm_start, record.read(storage, warm_start).front, definition)

"""The tables [tasks.NAME] of a study file: what a joint model learns at once, and from which rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from mtsearch.metrics import TUTORIAL_KINDS, Metric, TaskKind, metrics_of, unit_of
from mtsearch.study_file.space import Section
from mtsearch.text import quote

MOST_TASKS = 8

NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
"""The names that a task may have."""


_SERVED = {"user", "item", "title", "score", "rank", "task", "known", "known_user", "known_item",
           "known_users", "known_items", "ratings"}  # fmt: skip
"""Names of columns and outputs of a served model beside those of the tasks."""


def _require_name(name: str) -> str:
    if name in _SERVED:
        raise ValueError(f"{quote(name)} cannot name a task: recommendations have it; add a word, such as {name}_task")
    if not NAME.fullmatch(name):
        raise ValueError(f"{quote(name)} cannot name a task: use small letters, digits and _, such as purchase")
    return name


TaskName = Annotated[str, AfterValidator(_require_name)]
Condition = Annotated[str, Field(min_length=1)]


class TaskSection(Section):
    """A table [tasks.NAME]: one task of the joint model, and the rows of the data that it learns from."""

    kind: TaskKind = Field(
        description="`retrieval`: which item; `rating`: a number, by squared error; `label`: yes or no, by "
        "cross-entropy."
    )
    where: Condition | None = Field(
        default=None,
        description="Condition in SQL on the columns of the data: which rows the task learns from and is judged on; "
        "left out, all rows, of a rating or a label those that have one.",
    )
    target: Condition | None = Field(
        default=None,
        description="Column of the number or of the yes or no, or an SQL expression; of a rating by default the "
        "column of ratings. Rows where it is empty serve the other tasks only.",
    )

    @model_validator(mode="after")
    def _require_target(self) -> Self:
        if self.kind == "retrieval" and self.target is not None:
            raise ValueError("target: retrieval learns which item a row has: remove target, or name the rows by where")
        if self.kind == "label" and self.target is None:
            raise ValueError('target is missing: name the column of the yes or no, such as target = "clicked"')
        return self

    @property
    def uses_ratings(self) -> bool:
        """True for a task that learns the column of ratings."""
        return self.kind == "rating" and self.target is None


TUTORIAL_TASKS: Mapping[str, TaskSection] = {name: TaskSection(kind=kind) for name, kind in TUTORIAL_KINDS.items()}
"""The tasks of a study file without [tasks]: those of the multi-task tutorial."""


def kinds_of(tasks: Mapping[str, TaskSection]) -> dict[str, TaskKind]:
    """Return the kind of each task by name; without any, of the tutorial's two."""
    return {name: task.kind for name, task in (tasks or TUTORIAL_TASKS).items()}


def stored_metrics(definition: Mapping[str, Any], feedback: str = "explicit") -> dict[str, Metric]:
    """Return the metrics of a study whose definition is stored as plain values; see `metrics_of_tasks`."""
    tasks = {name: TaskSection.model_validate(task) for name, task in definition.get("tasks", {}).items()}
    return metrics_of_tasks(tasks, feedback)


def metrics_of_tasks(tasks: Mapping[str, TaskSection], feedback: str = "explicit") -> dict[str, Metric]:
    """Return the metrics of a study with these [tasks], by their keys in that study.

    Args:
        tasks: of the study file; without any, the tutorial's two.
        feedback: meaning of the column of ratings, from which its unit follows.
    """
    sections = tasks or TUTORIAL_TASKS
    units = {name: unit_of(feedback) if task.uses_ratings else task.target or "" for name, task in sections.items()}
    return metrics_of(kinds_of(tasks), units)

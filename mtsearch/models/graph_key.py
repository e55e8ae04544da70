"""Define what the graph of a joint model depends on: the tasks as it learns them, and its key, `GraphKey`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import RATINGS, Rows
from mtsearch.data.split import Split
from mtsearch.metrics import TUTORIAL_KINDS, TaskKind
from mtsearch.study_file.config import TrialConfig

LEAST_LARGE, LARGE_BATCHES = 10_000, 4
"""A table is large if it has at least this number of rows, and at least this number of times the rows of a batch.

NOTE: Adagrad on one table of D = 32, by the rows of a batch that differ, ms on 2 busy cores, over the whole table and
over these rows: 4,000 of 10,000 1.0 and 1.3; 4,000 of 20,000 1.3 and 1.4; 4,200 of 62,000 3.7 and 1.7; 7,200 of 162,000
11.8 and 4.3. Both give the same, to rounding.
"""


@dataclass(frozen=True)
class LearntTask:
    """A task as the graph of a model has it.

    Attributes:
        name, kind: of the task.
        target: place of its column in `Batch.targets`; None for retrieval of all rows.
        is_whole: True if all training rows serve the task.
    """

    name: str
    kind: TaskKind
    target: int | None
    is_whole: bool = True


_TUTORIAL = tuple(LearntTask(name, kind, 0 if kind == "rating" else None) for name, kind in TUTORIAL_KINDS.items())


def learnt_tasks(split: Split) -> tuple[LearntTask, ...]:
    """Return the tasks of a split as the graph of a model has them."""
    columns = target_columns(split.train, split)
    tasks = []
    for task in split.tasks:
        column = None if task.column is None else 0 if task.column == RATINGS else task.column + _uses_ratings(split)
        is_whole = column is None or not np.isnan(columns[column]).any()
        tasks.append(
            LearntTask(task.name, task.kind, None if task.kind == "retrieval" and is_whole else column, is_whole)
        )
    return tuple(tasks)


def target_columns(rows: Rows, split: Split) -> list[NDArray[np.float32]]:
    """Return the columns `[N]` that the tasks of a split learn from its rows, the ratings first if they are learnt."""
    return [*([rows.ratings] if _uses_ratings(split) else []), *rows.targets]


def _uses_ratings(split: Split) -> bool:
    return any(task.column == RATINGS for task in split.tasks)


@dataclass(frozen=True)
class GraphKey:
    """The settings that the graph of a joint model depends on; the other settings of a trial are inputs of the graph.

    Attributes:
        users, items: rows of the embedding tables, U and I.
        tasks: what is learnt, in the order of the study.
        normalized: True if each loss is divided by that of a predictor that knows nothing; see `TrialConfig.losses`.
        has_weights: True if the rows have weights.
        large_users, large_items: True: a step updates only the rows of the table that its batch has; see `is_large`.
        embedding_dropout, hidden_dropout: True if there is dropout; its rate is an input.
        l2: True if there is a penalty; its size is an input.
        uncertainty: True if the balance of the losses is learnt.
        static_batch: B of a graph that XLA compiles for batches of this size; None: the graph takes any, without XLA.
        sharing: how the tasks use the embeddings.
        experts: number of layers that they mix; 0 for none.
    """

    users: int
    items: int
    tasks: tuple[LearntTask, ...]
    normalized: bool
    has_weights: bool
    large_users: bool
    large_items: bool
    embedding_size: int
    retrieval_loss: str
    normalize: bool
    item_bias: bool
    remove_accidental_hits: bool
    rating_biases: bool
    dot_product: bool
    elementwise_product: bool
    hidden_widths: tuple[int, ...]
    precision: str
    embedding_dropout: bool
    hidden_dropout: bool
    l2: bool
    uncertainty: bool
    optimizer: str
    static_batch: int | None
    sharing: str
    experts: int

    @classmethod
    def of(
        cls,
        config: TrialConfig,
        users: int,
        items: int,
        xla: bool = False,
        tasks: tuple[LearntTask, ...] = _TUTORIAL,
        has_weights: bool = False,
    ) -> Self:
        """Return the key of `config` on embedding tables of the given numbers of users and items."""
        return cls(
            users,
            items,
            tasks,
            config.losses == "normalized",
            has_weights,
            is_large(users, config.batch_size),
            is_large(items, config.batch_size),
            config.embedding_size,
            config.retrieval_loss,
            config.normalize,
            config.item_bias,
            config.remove_accidental_hits and config.retrieval_loss in ("in_batch", "corrected"),
            config.rating_biases,
            config.dot_product,
            config.elementwise_product,
            config.hidden_widths,
            config.precision,
            embedding_dropout=config.embedding_dropout > 0,
            hidden_dropout=config.hidden_dropout > 0 and bool(config.hidden_widths),
            l2=config.l2 > 0,
            uncertainty=config.balance == "uncertainty",
            optimizer=config.optimizer,
            static_batch=config.batch_size if xla else None,
            sharing=config.sharing,
            experts=config.experts if config.sharing == "experts" else 0,
        )


def is_large(rows: int, batch_size: int) -> bool:
    """Return whether updating a whole table costs more than finding the rows that a batch has."""
    return rows >= max(LEAST_LARGE, LARGE_BATCHES * batch_size)

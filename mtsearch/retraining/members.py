"""Train the members of one model: one configuration with several seeds, for `retrain` and `evaluate_front`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from mtsearch.data import Split
from mtsearch.errors import DefinitionError, MachineError
from mtsearch.host import free_gpu_memory, free_memory, visible_gpus
from mtsearch.models.trainer import EpochMetrics, Trainer, TrialResult
from mtsearch.study_file.config import TrialConfig
from mtsearch.text import count

MAX_MEMBERS = 100


class MembersTrainer(Trainer, Protocol):
    """A trainer whose trainings can become members of one model."""

    def keep(self) -> None:
        """Keep the model that was trained last: the next training adds a member to it."""
        ...


def require_members(members: int) -> None:
    """Refuse a number of members that a model cannot have.

    Raises:
        DefinitionError: it is not from 1 to `MAX_MEMBERS`.
    """
    if not 1 <= members <= MAX_MEMBERS:
        raise DefinitionError(f"members = {members}", f"give 1 to {MAX_MEMBERS}")


def groups_of_seeds(config: TrialConfig, models: int, members: int) -> list[tuple[int, ...]]:
    """Return the seeds of each of several models: its members have the seeds after those of the model before."""
    seeds = config.seeds(models * members)
    return [seeds[start : start + members] for start in range(0, len(seeds), members)]


def train_members(
    trainer: MembersTrainer,
    config: TrialConfig,
    seeds: Sequence[int],
    epochs: int,
    on_epoch: Callable[[int, EpochMetrics], None],
) -> TrialResult:
    """Train a model with a member of each seed, and return the result of the first member.

    Args:
        trainer: has the model afterwards.
        config: of all members, but for the seed.
        seeds: of the members, one or more.
        epochs: number of epochs of each member.
        on_epoch: called after every epoch with the seed.

    Raises:
        TrialFailure: see `mtsearch.models.trainer.Trainer`.
    """
    results: list[TrialResult] = []
    for seed in seeds:
        if results:
            trainer.keep()
        results.append(train_seed(trainer, config, seed, epochs, partial(on_epoch, seed)))
    return results[0]


def train_seed(
    trainer: Trainer,
    config: TrialConfig,
    seed: int,
    epochs: int,
    on_epoch: Callable[[EpochMetrics], None] = lambda _: None,
) -> TrialResult:
    """Train a configuration with another seed, for exactly the given number of its epochs.

    Raises:
        TrialFailure: see `mtsearch.models.trainer.Trainer`.
    """

    def watch(epoch: EpochMetrics) -> bool:
        """Report an epoch, and return False after the last one to train."""
        on_epoch(epoch)
        return epoch.epoch < epochs

    # The schedule of the learning rate keeps its length: `watch` stops the training.
    return trainer.train(config.model_copy(update={"seed": seed, "patience": 0}), watch)


_COPIES = 2
"""Copies of the members' tables at once: those that were kept, and those that are written or ranked by."""


def require_memory_for(members: int, config: TrialConfig, split: Split) -> None:
    """Refuse members of a joint model whose tables do not fit into the memory of this machine.

    A single member needs no more than its training, which is checked there.

    Raises:
        MachineError: they do not fit.
    """
    if members == 1:
        return
    free = free_gpu_memory() if visible_gpus() else free_memory()
    # Each task has a table of its own of users and of items, with a row for unknown ones and at most a bias.
    numbers = len(split.tasks) * (len(split.user_ids) + len(split.item_ids) + 2) * (config.embedding_size + 1)
    needed = _COPIES * members * 4 * numbers
    if free is not None and needed > free:
        raise MachineError(
            f"the tables of {members} members take {needed / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB are free",
            f"give at most {count(max(1, members * free // needed), 'member')}",
        )

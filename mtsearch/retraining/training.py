"""`retrain`: an export, its data, and as many seeds as asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mtsearch.data import Interactions, Split, load, make_split, undivided
from mtsearch.errors import DefinitionError, ExportError
from mtsearch.evaluation import baselines
from mtsearch.export_file import Export
from mtsearch.retraining.folder import writable_place, write_folder
from mtsearch.retraining.result import On, Retrained, intervals
from mtsearch.trial import EpochMetrics

if TYPE_CHECKING:
    from mtsearch.recsys import JointTrainer

Watcher = Callable[[int, EpochMetrics], None]
"""Told of every finished epoch, with its seed."""


def retrain(
    export: Export | str | Path,
    folder: str | Path,
    *,
    seeds: int = 1,
    on: On = "train+validation",
    on_epoch: Watcher = lambda _seed, _epoch: None,
) -> Retrained:
    """Train an exported configuration again and write a model folder, whole or not at all.

    Where the configuration has `patience`, the best epoch of its trial is the last one here.

    Args:
        export: what `mtsearch export` wrote, or the path of it.
        folder: an earlier model folder is replaced, at the end.
        seeds: the configuration's own and the ones after it; the model of the first is written.
        on: `train` repeats the trial; `train+validation` trains on the validation rows too; both are judged on the
            test rows, once, at the end. `all` trains on the test rows as well and is not judged.
        on_epoch: told of every finished epoch; the first seed is trained last.

    Raises:
        ExportError: it cannot be read, or its data or split are no longer those of its trial.
        ModelError: something that is no model folder is at `folder` already.
        MtsearchError: see `mtsearch.errors`.
    """
    if seeds < 1:
        raise DefinitionError(f"seeds = {seeds}", "one or more")
    if seeds > 1 and on == "all":
        raise DefinitionError(f"seeds = {seeds} with on = all", "one seed: no rows are left to judge the others on")
    export = export if isinstance(export, Export) else Export.load(export)
    target = writable_place(Path(folder))
    interactions, split = _of_export(export)
    rows = _rows_for(on, interactions, split)
    trainer = _trainer(rows, export.provenance.threads, validate=on == "train")
    result = _train(export, trainer, split, seeds, on, on_epoch)
    result = replace(result, folder=target)
    write_folder(result, trainer.save)
    return result


def retrained_epochs(export: Export) -> int:
    """Epochs that `retrain` trains: all, or with `patience` those up to the trial's best."""
    epochs = export.config.epochs
    return min(export.provenance.best_epoch, epochs) if export.config.patience else epochs


def _of_export(export: Export) -> tuple[Interactions, Split]:
    """The ratings and their split, refused where they are not those that the export's trial had."""
    provenance = export.provenance
    interactions = load(export.data, export.split)
    if interactions.fingerprint != provenance.data_fingerprint:
        raise ExportError(
            f"the ratings of {export.data.source} are not those of the export: "
            f"{_other(provenance.data_fingerprint, interactions.fingerprint)}",
            "give those that the study had, or search on these",
        )
    split = make_split(interactions, export.split)
    if split.fingerprint != provenance.split_fingerprint:
        raise ExportError(
            f"[split] holds out other rows than the export's trial did, or its catalogue has changed: "
            f"{_other(provenance.split_fingerprint, split.fingerprint)}",
            "undo the change, or search with this split",
        )
    return interactions, split


def _other(stored: str, present: str) -> str:
    return f"fingerprint {present[:12]} in place of {stored[:12]}"


def _rows_for(on: On, interactions: Interactions, split: Split) -> Split:
    if on == "all":
        return undivided(interactions)
    return split if on == "train" else split.final()


def _trainer(split: Split, threads: int | None, *, validate: bool) -> JointTrainer:
    from mtsearch.recsys import Device, JointTrainer  # TensorFlow takes seconds to import

    return JointTrainer(split, Device.default(threads), validate=validate)


def _train(export: Export, trainer: JointTrainer, split: Split, seeds: int, on: On, on_epoch: Watcher) -> Retrained:
    """Every seed trained and judged; the trainer is left with the model of the first, which is why that is the last."""
    config, rows, epochs = export.config, trainer.split, retrained_epochs(export)
    test: list[Mapping[str, float]] = []
    validation: list[Mapping[str, float]] = []
    numbers = tuple((config.seed + number) % 2**31 for number in range(seeds))
    for seed in reversed(numbers):
        # The schedule of the learning rate keeps its length: what stops the training is the watcher.
        seeded = config.model_copy(update={"seed": seed, "patience": 0})
        result = trainer.train(seeded, _until(epochs, seed, on_epoch))
        if on != "all":
            test.insert(0, trainer.evaluate(split.test))
        if result.metrics:
            validation.insert(0, result.metrics)
    return Retrained(
        folder=Path(),
        export=export,
        on=on,
        seeds=numbers,
        epochs=epochs,
        device=trainer.device.description,
        threads=trainer.device.threads,
        users=int(rows.known_users.sum()),
        items=int(rows.known_items.sum()),
        catalogue=len(rows.catalogue),
        rating_range=(float(rows.train.ratings.min()), float(rows.train.ratings.max())),
        rows={"train": len(rows.train), "test": len(split.test) if test else 0},
        test=intervals(test) if test else {},
        validation=intervals(validation) if validation else {},
        baselines=baselines(rows, split.test) if test else {},
        curve=result.curve,
    )


def _until(epochs: int, seed: int, on_epoch: Watcher) -> Callable[[EpochMetrics], bool]:
    def watch(epoch: EpochMetrics) -> bool:
        on_epoch(seed, epoch)
        return epoch.epoch < epochs

    return watch

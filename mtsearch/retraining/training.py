"""`retrain`: an export, its data, and as many seeds as asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mtsearch.config import TrialConfig
from mtsearch.data import Interactions, Split, load, make_split, undivided
from mtsearch.errors import DefinitionError, ExportError
from mtsearch.evaluation import baselines
from mtsearch.evaluation.interval import intervals
from mtsearch.export_file import Export
from mtsearch.retraining.folder import writable_place, write_folder
from mtsearch.retraining.result import On, Retrained
from mtsearch.study_file.model import Source, find_source
from mtsearch.trial import EpochMetrics, Trainer, TrialResult

if TYPE_CHECKING:
    from mtsearch.recsys import JointTrainer, OwnTrainer

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
    interactions, split = data_of(export)
    rows = _rows_for(on, interactions, split)
    trainer = trainer_of(export, rows, validate=on == "train")
    result = _train(export, trainer, split, seeds, on, on_epoch)
    result = replace(result, folder=target, feedback=interactions.reading.feedback)
    write_folder(result, trainer.save)
    return result


def retrained_epochs(export: Export) -> int:
    """Epochs that `retrain` trains: all, or with `patience` those up to the trial's best."""
    epochs = export.config.epochs
    return min(export.provenance.best_epoch, epochs) if export.config.patience else epochs


def train_seed(
    trainer: Trainer,
    config: TrialConfig,
    seed: int,
    epochs: int,
    on_epoch: Callable[[EpochMetrics], None] = lambda _: None,
) -> TrialResult:
    """Train a configuration with a seed in place of its own, for exactly so many of its epochs.

    Raises:
        TrialFailure: see `mtsearch.trial.Trainer`.
    """

    def watch(epoch: EpochMetrics) -> bool:
        on_epoch(epoch)
        return epoch.epoch < epochs

    # The schedule of the learning rate keeps its length: what stops the training is the watcher.
    return trainer.train(config.model_copy(update={"seed": seed, "patience": 0}), watch)


def data_of(export: Export) -> tuple[Interactions, Split]:
    """The ratings of an export and their split.

    Raises:
        ExportError: they are not those that its trial had.
    """
    provenance = export.provenance
    interactions = load(export.data, export.split)
    if interactions.fingerprint != provenance.data_fingerprint:
        raise ExportError(
            f"the ratings of {export.data.source} are not those of study {provenance.study}: "
            f"{_other(provenance.data_fingerprint, interactions.fingerprint)}",
            "give those that the study had, or search on these",
        )
    split = make_split(interactions, export.split)
    if split.fingerprint != provenance.split_fingerprint:
        raise ExportError(
            f"[split] holds out other rows than study {provenance.study} did, or its catalogue has changed: "
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


def trainer_of(export: Export, split: Split, *, validate: bool) -> JointTrainer | OwnTrainer:
    """What trained the export, on the best device; with `validate` it is judged after every epoch.

    Raises:
        ExportError: the text of a model of the user's own is not that of its trial.
        DefinitionError: it cannot be found or imported.
    """
    if export.model is not None:
        _require_same_source(export, find_source(export.model))
    from mtsearch.recsys import Device, Factory, JointTrainer, OwnTrainer  # TensorFlow takes seconds to import

    device = Device.default(export.provenance.threads)
    if export.model is not None:
        return OwnTrainer(Factory(export.model), split, device, validate=validate)
    return JointTrainer(split, device, validate=validate)


def _require_same_source(export: Export, source: Source) -> None:
    stored = export.provenance.source_fingerprint
    if stored is not None and stored != source.fingerprint:
        raise ExportError(
            f"{source.file} is not the model of study {export.provenance.study}: {_other(stored, source.fingerprint)}",
            "undo the change, or search with this model",
        )


def _train(
    export: Export, trainer: JointTrainer | OwnTrainer, split: Split, seeds: int, on: On, on_epoch: Watcher
) -> Retrained:
    """Every seed trained and judged; the trainer is left with the model of the first, which is why that is the last."""
    rows, numbers, epochs = trainer.split, export.config.seeds(seeds), retrained_epochs(export)
    test: list[Mapping[str, float]] = []
    validation: list[Mapping[str, float]] = []
    for seed in reversed(numbers):
        result = train_seed(trainer, export.config, seed, epochs, partial(on_epoch, seed))
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

"""Train an exported configuration again with one or more seeds, and evaluate it on the test rows (`retrain`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mtsearch.data import Interactions, Split, load, make_split, undivided
from mtsearch.errors import DefinitionError, ExportError
from mtsearch.evaluation import evaluate_baselines
from mtsearch.evaluation.confidence import Interval, intervals
from mtsearch.metrics import Metric
from mtsearch.models.trainer import EpochMetrics
from mtsearch.retraining.members import groups_of_seeds, require_members, require_memory_for, train_members
from mtsearch.retraining.model_dir import first_ranking, resolve_target, write_folder
from mtsearch.study_file.export import Export
from mtsearch.study_file.load import ModelSource, find_model_source
from mtsearch.study_file.tasks import metrics_of_tasks

if TYPE_CHECKING:
    from mtsearch.models import CustomTrainer, JointTrainer

Watcher = Callable[[int, EpochMetrics], None]
"""Called after every epoch with the seed and the metrics of the epoch."""


def retrain(
    export: Export | str | Path,
    folder: str | Path,
    *,
    seeds: int = 1,
    members: int = 1,
    on: On = "train+validation",
    on_epoch: Watcher = lambda _seed, _epoch: None,
) -> Retrained:
    """Train an exported configuration again and write a model folder, whole or not at all.

    A model of several members has been trained with as many seeds: its predictions and its scores are their means.

    If the configuration has `patience`, training ends at the best epoch of its trial.

    Args:
        export: an export of `mtsearch export`, or the path of its file.
        folder: to write; an earlier model folder is replaced, at the end.
        seeds: number of models, each with other seeds, the configuration's own and the next ones; the first is written.
        members: number of trainings that make a model, 1 to 100.
        on: `train` repeats the trial; `train+validation` trains on the validation rows too; both are evaluated on the
            test rows, once, at the end. `all` trains on the test rows as well and is not evaluated.
        on_epoch: called after every epoch; the first model is trained last.

    Raises:
        ExportError: the export cannot be read, or its data or split are no longer those of its trial.
        ModelError: something that is no model folder is at `folder`.
        MachineError: the members do not fit into memory.
        MtsearchError: see `mtsearch.errors`.
    """
    require_members(members)
    if seeds < 1:
        raise DefinitionError(f"seeds = {seeds}: at least one is needed", "give 1 or more")
    if seeds > 1 and on == "all":
        raise DefinitionError(
            f"seeds = {seeds} with on = all: no rows are left to compare the seeds on",
            "use one seed, or on = train or train+validation",
        )
    export = export if isinstance(export, Export) else Export.load(export)
    target = resolve_target(Path(folder))
    interactions, split = load_export_data(export)
    rows = _training_split(on, interactions, split)
    if export.model is None:
        require_memory_for(members, export.config, rows)
    trainer = make_export_trainer(export, rows, validate=on == "train")
    result = _train_models(export, trainer, split, groups_of_seeds(export.config, seeds, members), on, on_epoch)
    result = replace(result, folder=target, feedback=interactions.report.feedback)
    write_folder(result, partial(trainer.save, first=first_ranking(result)))
    return result


def retrained_epochs(export: Export) -> int:
    """Return the number of epochs that `retrain` trains: all, or with `patience` those up to the best of the trial."""
    epochs = export.config.epochs
    return min(export.provenance.best_epoch, epochs) if export.config.patience else epochs


def load_export_data(export: Export) -> tuple[Interactions, Split]:
    """Load the ratings of an export and split them, and check that both are those of its trial.

    Raises:
        ExportError: the ratings or the split are not those of its trial.
    """
    provenance = export.provenance
    interactions = load(export.data, export.split, export.tasks)
    if interactions.fingerprint != provenance.data_fingerprint:
        raise ExportError(
            f"the ratings of {export.data.origin} are not those of study {provenance.study}: "
            f"{_fingerprints_text(provenance.data_fingerprint, interactions.fingerprint)}",
            "give the ratings of the study, or run a new study on these",
        )
    split = make_split(interactions, export.split, export.tasks)
    if split.fingerprint != provenance.split_fingerprint:
        raise ExportError(
            f"[split] holds out other rows than in study {provenance.study}, or the catalogue was changed: "
            f"{_fingerprints_text(provenance.split_fingerprint, split.fingerprint)}",
            "undo the change, or run a new study with this split",
        )
    return interactions, split


def _fingerprints_text(stored: str, present: str) -> str:
    """Return a text with the beginnings of two different fingerprints."""
    return f"the fingerprint is {present[:12]}, but was {stored[:12]}"


def _training_split(on: On, interactions: Interactions, split: Split) -> Split:
    """Return the split whose training rows are those to train on."""
    if on == "all":
        return undivided(interactions, split.tasks)
    return split if on == "train" else split.final()


def make_export_trainer(export: Export, split: Split, *, validate: bool) -> JointTrainer | CustomTrainer:
    """Make the trainer of an export on the best device; with `validate` it evaluates after every epoch.

    Raises:
        ExportError: the source of a custom model is not that of the trial.
        DefinitionError: a custom model cannot be found or imported.
    """
    if export.model is not None:
        _require_same_source(export, find_model_source(export.model))
    from mtsearch.models import CustomTrainer, Device, JointTrainer, ModelFactory  # TensorFlow takes seconds to import

    device = Device.default(export.provenance.threads)
    if export.model is not None:
        return CustomTrainer(ModelFactory(export.model), split, device, validate=validate)
    return JointTrainer(split, device, validate=validate)


def _require_same_source(export: Export, source: ModelSource) -> None:
    """Refuse a custom model whose source is not that of the trial."""
    stored = export.provenance.source_fingerprint
    if stored is not None and stored != source.fingerprint:
        raise ExportError(
            f"{source.file} is not the model of study {export.provenance.study}: "
            f"{_fingerprints_text(stored, source.fingerprint)}",
            "undo the change, or run a new study with this model",
        )


def _train_models(
    export: Export,
    trainer: JointTrainer | CustomTrainer,
    split: Split,
    groups: Sequence[tuple[int, ...]],
    on: On,
    on_epoch: Watcher,
) -> Retrained:
    """Train and evaluate the model of every group of seeds, the first one last, so that the trainer keeps it."""
    rows, epochs = trainer.split, retrained_epochs(export)
    test: list[Mapping[str, float]] = []
    validation: list[Mapping[str, float]] = []
    for seeds in reversed(groups):
        result = train_members(trainer, export.config, seeds, epochs, on_epoch)
        if on != "all":
            test.insert(0, trainer.evaluate(split.test))
        if on == "train":
            validation.insert(0, trainer.evaluate(split.validation))
    return Retrained(
        folder=Path(),
        export=export,
        on=on,
        seeds=tuple(chain.from_iterable(groups)),
        members=len(groups[0]),
        epochs=epochs,
        device=trainer.device.description,
        threads=trainer.device.threads,
        users=int(rows.known_users.sum()),
        items=int(rows.known_items.sum()),
        catalogue=len(rows.catalogue),
        rating_range=_range_of_known(rows.train.ratings),
        rows={"train": len(rows.train), "test": len(split.test) if test else 0},
        test=intervals(test) if test else {},
        validation=intervals(validation) if validation else {},
        baselines=evaluate_baselines(rows, split.test) if test else {},
        curve=result.curve,
    )


def _range_of_known(ratings: NDArray[np.float32]) -> tuple[float, float]:
    """Return the lowest and highest rating of the rows that have one; NaN if none has."""
    known = ratings[~np.isnan(ratings)]
    return (float(known.min()), float(known.max())) if len(known) else (nan, nan)


On = Literal["train", "train+validation", "all"]


@dataclass(frozen=True, eq=False)
class Retrained:
    """A configuration that was trained again.

    Attributes:
        folder: absolute path of the model folder; the model is that of the first seeds, one for each member.
        export: the export that was trained.
        on: the rows that were trained on: those of the trial, its validation rows too, or the test rows as well.
        seeds: one per training.
        epochs: number of epochs of each training.
        device: name of the device that trained, for people.
        threads: number of threads of the device.
        users: number of users with a training row.
        items: number of items with a training row.
        catalogue: number of items that are ranked.
        rating_range: lowest and highest training rating, in the unit of `feedback`; NaN if no row has one.
        rows: numbers of rows by their use: `train`, `test`.
        test: metrics on the test rows, each model evaluated once; empty if all rows were trained on.
        validation: metrics on the validation rows; empty if these were trained on.
        baselines: metrics of the baselines on the test rows, learnt from the same training rows.
        curve: the epochs of the first seed.
        feedback: kind of the ratings: explicit, binary or count.
        members: number of trainings that make a model.
    """

    folder: Path
    export: Export
    on: On
    seeds: tuple[int, ...]
    epochs: int
    device: str
    threads: int
    users: int
    items: int
    catalogue: int
    rating_range: tuple[float, float]
    rows: Mapping[str, int]
    test: Mapping[str, Interval] = field(default_factory=dict)
    validation: Mapping[str, Interval] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    curve: tuple[EpochMetrics, ...] = ()
    feedback: str = "explicit"
    members: int = 1

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """The seeds of the members of each model; the first model is the one that is written."""
        return [self.seeds[start : start + self.members] for start in range(0, len(self.seeds), self.members)]

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics of the study's tasks, by their keys in the study."""
        return metrics_of_tasks(self.export.tasks, self.feedback)

    @property
    def objectives(self) -> list[Metric]:
        """The metrics that the study optimised."""
        return [self.metrics[key] for key in self.export.provenance.objectives if key in self.metrics]

    @property
    def repeats_the_trial(self) -> bool:
        """True if the validation metrics repeat the measurement of the trial, and may be compared with it.

        With patience and several seeds they do not: in the trial each seed ended at its own epoch, here all at one.
        Nor do those of a model of several members.
        """
        alike = self.members == 1 and (len(self.seeds) == 1 or not self.export.config.patience)
        return bool(self.validation) and len(self.seeds) == self.export.provenance.repeats and alike

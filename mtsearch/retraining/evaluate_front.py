"""Train the members of a front with several seeds and evaluate each on the test rows, for `mtsearch report`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Protocol

from mtsearch.data import Rows, Split
from mtsearch.errors import TrialFailure
from mtsearch.evaluation import evaluate_baselines
from mtsearch.models.trainer import EpochMetrics
from mtsearch.retraining.members import (
    MembersTrainer,
    groups_of_seeds,
    require_members,
    require_memory_for,
    train_members,
)
from mtsearch.retraining.retrain import load_export_data, make_export_trainer, retrained_epochs
from mtsearch.search.attributes import TestResult, TestResultStore
from mtsearch.search.results import StudyResults
from mtsearch.search.selection import make_export, require_front, select
from mtsearch.study_file.export import Export


class TestingTrainer(MembersTrainer, Protocol):
    """A trainer that can also evaluate its last model on rows other than the validation rows."""

    def evaluate(self, rows: Rows) -> Mapping[str, float]:
        """Return the metrics on `rows` of the model that was trained last."""
        ...


MakeTestingTrainer = Callable[[Split, int | None], TestingTrainer]
"""Function from a split and a number of threads (None: one per core) to a trainer."""

Begun = Callable[[int, int], None]
"""Called with the number of trainings that are done already, and the number of all."""

Watcher = Callable[[int, int, float], None]
"""Called after every epoch with trial, first seed, and the finished share of the training of the model, 0..1."""

Listener = Callable[[int, int, TestResult], None]
"""Called after every evaluated model, once it is stored, with trial, first seed and test result."""


def evaluate_front(
    results: StudyResults,
    seeds: int,
    test_results: TestResultStore,
    *,
    members: int = 1,
    make_trainer: MakeTestingTrainer | None = None,
    begun: Begun = lambda _done, _all: None,
    on_epoch: Watcher = lambda _trial, _seed, _share: None,
    on_tested: Listener = lambda _trial, _seed, _tested: None,
) -> None:
    """Train each member of the front on training and validation rows with several seeds, and evaluate it on test rows.

    The seeds are that of the trial and the next ones. An interrupted evaluation goes on where it ended: a training in
    `results` is not repeated, unless it failed. All members are trained with one seed before any is with the next, so
    that an interruption leaves as many results for each.

    Args:
        results: results of the study.
        seeds: number of models of each member of the front, one or more.
        test_results: store of the same study; gets each test result as soon as there is one.
        members: number of trainings that make a model, with consecutive seeds; 1 to 100.
        make_trainer: called once if a training is left to do; by default it makes the trainer of the study, on the best
            device, which evaluates no rows but the test rows.
        begun, on_epoch, on_tested: called as the evaluation goes on.

    Raises:
        PickError: the front is empty.
        ExportError: the data or the split are no longer those of the study.
        StorageError: a configuration cannot be read.
        DefinitionError: `members` is out of bounds.
        MachineError: the members of a model do not fit into memory.
    """
    require_members(members)
    exports = {row.trial: make_export(results, select(results, f"trial:{row.trial}")) for row in require_front(results)}
    left = [each for each in _models(exports, seeds, members) if not _is_done(results, *each)]
    begun(len(exports) * seeds - len(left), len(exports) * seeds)
    if not left and results.test_baselines:
        return
    export = next(iter(exports.values()))
    # All members have the same data and split: those of the first are enough.
    _, split = load_export_data(export)
    rows = split.final()
    for each in exports.values() if export.model is None else ():
        require_memory_for(members, each.config, rows)
    test_results.store_baselines(evaluate_baselines(rows, split.test))
    if not left:
        return
    trainer = (
        make_trainer(rows, export.provenance.threads)
        if make_trainer
        else make_export_trainer(export, rows, validate=False)
    )
    for trial, group in left:
        tested = _train_and_test(trainer, exports[trial], group, split.test, partial(on_epoch, trial, group[0]))
        test_results.store(trial, group[0], tested, members)
        on_tested(trial, group[0], tested)


def _models(exports: Mapping[int, Export], seeds: int, members: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield trial and seeds of the members of each model: all trials with the first seeds, then all with the next."""
    for number in range(seeds):
        for trial, export in exports.items():
            yield trial, groups_of_seeds(export.config, seeds, members)[number]


def _is_done(results: StudyResults, trial: int, seeds: tuple[int, ...]) -> bool:
    """Return whether a model has test results and did not fail."""
    tested = results.tested(len(seeds)).get(trial, {}).get(seeds[0])
    return tested is not None and not tested.failure


def _train_and_test(
    trainer: TestingTrainer, export: Export, seeds: tuple[int, ...], rows: Rows, on_share: Callable[[float], None]
) -> TestResult:
    """Train a model of an export, a member for each seed, and return its metrics on `rows`, or its failure."""
    epochs = retrained_epochs(export)

    def ended(seed: int, epoch: EpochMetrics) -> None:
        on_share((seeds.index(seed) * epochs + epoch.epoch) / (len(seeds) * epochs))

    try:
        train_members(trainer, export.config, seeds, epochs, ended)
        return TestResult(trainer.evaluate(rows))
    except TrialFailure as failure:
        return TestResult({}, str(failure))

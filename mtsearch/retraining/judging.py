"""`report`: the members of a front, each trained again with several seeds and judged on the test rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Protocol

from mtsearch.data import Rows, Split
from mtsearch.errors import TrialFailure
from mtsearch.evaluation import baselines
from mtsearch.export_file import Export
from mtsearch.retraining.training import data_of, retrained_epochs, train_seed, trainer_of
from mtsearch.search.choosing import choose, front_of
from mtsearch.search.exporting import export_of
from mtsearch.search.judgements import Judged, Judgements
from mtsearch.search.record import StudyRecord
from mtsearch.trial import EpochMetrics, Trainer


class JudgingTrainer(Trainer, Protocol):
    """A trainer that can be asked for other rows than those that it validates on."""

    def evaluate(self, rows: Rows) -> Mapping[str, float]:
        """Metrics on `rows` of the model that was trained last."""
        ...


MakeJudge = Callable[[Split, int | None], JudgingTrainer]
"""From a split to train and judge on, and a number of threads."""

Begun = Callable[[int, int], None]
"""Told how many trainings are done already, and of how many."""

Watcher = Callable[[int, int, float], None]
"""Told of every finished epoch: trial, seed, share of the training that is done."""

Listener = Callable[[int, int, Judged], None]
"""Told of every training that was judged, when it is kept: trial, seed, what came of it."""


def judge_front(
    record: StudyRecord,
    seeds: int,
    judgements: Judgements,
    *,
    make_trainer: MakeJudge | None = None,
    begun: Begun = lambda _done, _all: None,
    on_epoch: Watcher = lambda _trial, _seed, _share: None,
    on_judged: Listener = lambda _trial, _seed, _judged: None,
) -> None:
    """Train each member of the front on training and validation rows, with its seed and the ones after it, and judge.

    Goes on where it was ended: what `record` has already is not trained again, unless it failed. All members are
    trained with one seed before any is with the next, so that what an interruption leaves is fair to all.

    Args:
        record: of the study.
        seeds: K, one or more, of each member.
        judgements: of the same study; told of each training as it comes.
        make_trainer: called once, where something is left to train; by default what trained the study, on the best
            device, which looks at no row but those it is asked for.
        begun, on_epoch, on_judged: told how it goes on.

    Raises:
        PickError: nothing is on the front.
        ExportError: the data or the split are no longer those of the study.
        StorageError: a configuration cannot be read.
    """
    exports = {row.trial: export_of(record, choose(record, f"trial:{row.trial}")) for row in front_of(record)}
    left = [each for each in _trainings(exports, seeds) if not _is_done(record, *each)]
    begun(len(exports) * seeds - len(left), len(exports) * seeds)
    if not left and record.test_baselines:
        return
    export = next(iter(exports.values()))
    _, split = data_of(export)
    rows = split.final()
    judgements.keep_baselines(baselines(rows, split.test))
    if not left:
        return
    trainer = (
        make_trainer(rows, export.provenance.threads) if make_trainer else trainer_of(export, rows, validate=False)
    )
    for trial, seed in left:
        judged = _judge(trainer, exports[trial], seed, split.test, partial(on_epoch, trial, seed))
        judgements.keep(trial, seed, judged)
        on_judged(trial, seed, judged)


def _trainings(exports: Mapping[int, Export], seeds: int) -> Iterator[tuple[int, int]]:
    """Trial and seed of each, all trials with one seed first."""
    for number in range(seeds):
        for trial, export in exports.items():
            yield trial, export.config.seeds(seeds)[number]


def _is_done(record: StudyRecord, trial: int, seed: int) -> bool:
    judged = record.judged.get(trial, {}).get(seed)
    return judged is not None and not judged.failure


def _judge(trainer: JudgingTrainer, export: Export, seed: int, rows: Rows, on_share: Callable[[float], None]) -> Judged:
    epochs = retrained_epochs(export)

    def ended(epoch: EpochMetrics) -> None:
        on_share(epoch.epoch / epochs)

    try:
        train_seed(trainer, export.config, seed, epochs, ended)
        return Judged(trainer.evaluate(rows))
    except TrialFailure as failure:
        return Judged({}, str(failure))

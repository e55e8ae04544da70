"""Whether the softmax over the whole catalogue fits into memory: said before anything is trained."""

from collections.abc import Iterator

from mtsearch.config import TrialConfig
from mtsearch.definition import StudyDefinition
from mtsearch.errors import MachineError
from mtsearch.machine import free_gpu_memory, free_memory, visible_gpus
from mtsearch.study_file.parameters import Scalar
from mtsearch.study_file.searchable import config_of

REMEDY = 'set retrieval_loss = "corrected", or lower batch_size'

_MATRICES = 1.1
"""Of float32, a row for each user of a batch and a column for each item, that a step of `full` holds.

NOTE: TensorFlow makes the exponentials in the place of the scores: the peak of loss and gradient is 1.05 of them.
"""


def lack_of_memory(config: TrialConfig, users: int, candidates: int, free: int | None) -> str | None:
    """What `config` lacks for its softmax; None where it fits or where nobody knows.

    Args:
        config: of a trial.
        users: U; a batch has at most so many.
        candidates: number of items, `Split.candidates`.
        free: bytes.
    """
    rows = min(config.batch_size, users)
    needed = int(_MATRICES * 4 * rows * candidates)
    if config.retrieval_loss != "full" or free is None or needed <= free:
        return None
    return (
        f'retrieval_loss = "full" compares {rows:,} users with {candidates:,} items at batch_size {config.batch_size}, '
        f"which takes {needed / 2**30:.1f} GiB where {free / 2**30:.1f} are free"
    )


def require_memory(definition: StudyDefinition, users: int, candidates: int, workers: int = 1) -> None:
    """Refuse a definition with trials for which this machine lacks the memory, by `lack_of_memory`.

    A searched batch size is taken at its least: where only larger ones do not fit, it is their trials that fail.
    Workers share the memory of the machine; on GPUs each is taken to have one.

    Raises:
        MachineError: it has some.
    """
    if definition.model is not None:
        return
    free = free_gpu_memory() if visible_gpus() else free_memory() // workers
    for values in _trials(definition):
        if lack := lack_of_memory(config_of({**definition.fixed, **values}), users, candidates, free):
            raise MachineError(lack, REMEDY)


def _trials(definition: StudyDefinition) -> Iterator[dict[str, Scalar]]:
    """The listed trials, and the starting point, each with every retrieval loss that it leaves open."""
    if not definition.space:
        yield from definition.trials
        return
    start = definition.starting_point()
    if "batch_size" in definition.space:
        start["batch_size"] = min(definition.space["batch_size"].extremes())
    losses: list[dict[str, Scalar]] = [{}]
    if "retrieval_loss" in definition.space:
        losses = [{"retrieval_loss": loss} for loss in definition.space["retrieval_loss"].extremes()]
    for trial in ({}, *definition.trials):
        for loss in losses:
            yield {**start, **loss, **trial}

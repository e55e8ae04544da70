"""Trainers that need no TensorFlow: an exact formula in place of a model."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtsearch.data import Split
from mtsearch.errors import NonFiniteLoss
from mtsearch.metrics import METRICS
from mtsearch.models.trainer import EpochMetrics, TrialResult
from mtsearch.study_file.config import TrialConfig

DIVERGES_ABOVE = 0.9


def metrics_of(config: TrialConfig, epoch: int) -> dict[str, float]:
    """A trade-off along the ratio of the weights: RMSE and MAE fall, top-100 and nDCG rise on opposite sides.

    The embedding is another one, between MAE and MRR.
    """
    share = config.retrieval_weight / (config.rating_weight + config.retrieval_weight)
    noise = (config.seed % 7) * 1e-3
    values = dict.fromkeys(METRICS, 0.5)
    values["rmse"] = 1.2 - 0.2 * (1 - share) ** 2 + config.learning_rate / 10 - epoch * 1e-3 + noise
    values["top_100"] = 0.1 + 0.2 * share**0.5 - config.learning_rate / 20 + epoch * 1e-3
    values["ndcg_10"] = 0.3 + 0.2 * share**0.5 - config.learning_rate / 20
    values["mae"] = 0.8 + 0.1 * share + config.embedding_size / 1000 - epoch * 1e-3 + noise
    values["mrr"] = 0.4 - 0.1 * share + config.embedding_size / 1000 + epoch * 1e-3
    return values


class FormulaTrainer:
    """A trainer that computes metrics by a formula and diverges at learning rates above 0.9."""

    def __init__(self, hook: Callable[[TrialConfig, int], None] = lambda _config, _epoch: None) -> None:
        self.hook = hook
        self.trained: list[TrialConfig] = []

    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        curve: list[EpochMetrics] = []
        self.trained.append(config)
        for epoch in range(1, config.epochs + 1):
            self.hook(config, epoch)
            if config.learning_rate > DIVERGES_ABOVE:
                raise NonFiniteLoss(epoch, 3)
            curve.append(EpochMetrics(epoch, metrics_of(config, epoch), {"rating": 1.0, "retrieval": 8.0}, 0.1 * epoch))
            if not on_epoch(curve[-1]):
                return TrialResult(curve[-1].metrics, tuple(curve), epoch, 10, {"train": 0.1}, epoch < config.epochs)
        return TrialResult(curve[-1].metrics, tuple(curve), len(curve), 10, {"train": 0.1})


def make_factory(trainer: FormulaTrainer) -> Callable[[Split, int | None], tuple[FormulaTrainer, Mapping[str, Any]]]:
    """Return a function that gives `api.run` this trainer."""
    return lambda _split, _threads: (trainer, {"device": "formula", "threads": 1})


def wait_for_all() -> None:
    """Wait until as many processes have called this as the fixture `together` asks for.

    However slowly the last of them starts, the first ones do not end the study before.
    """
    folder, _, number = os.environ.get("MTSEARCH_TEST_TOGETHER", "").rpartition(":")
    if not folder:
        return
    Path(folder, str(os.getpid())).touch()
    end = time.monotonic() + 300
    while len(list(Path(folder).iterdir())) < int(number):
        assert time.monotonic() < end, f"not all of {number} workers have begun a trial"
        time.sleep(0.02)


def _sleeping(seconds: float) -> Callable[[TrialConfig, int], None]:
    """Return a hook that makes each epoch take a number of seconds."""

    def sleep(_config: TrialConfig, _epoch: int) -> None:
        wait_for_all()
        time.sleep(seconds)

    return sleep


def slow_formula(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Make a formula trainer for a worker that takes 0.1 s per epoch."""
    return FormulaTrainer(_sleeping(0.1)), {"device": "formula", "threads": threads}


def raising_formula(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Make a trainer that raises an unexpected error."""

    def fail(_config: TrialConfig, _epoch: int) -> None:
        raise ZeroDivisionError("a bug")

    return FormulaTrainer(fail), {"device": "formula", "threads": threads}


def struck_formula(
    folder: Path, number: int, times: int, _split: Split, threads: int | None
) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Make a formula trainer that sends its process a signal in the second epoch of a training.

    Args:
        folder: that all processes share, for a note of each signal.
        number: of the signal.
        times: how many signals there are in all processes together.
    """

    def strike(_config: TrialConfig, epoch: int) -> None:
        wait_for_all()
        time.sleep(0.05)
        if epoch == 2 and take_turn(folder, times):
            os.kill(os.getpid(), number)

    return FormulaTrainer(strike), {"device": "formula", "threads": threads}


def take_turn(folder: Path, times: int) -> bool:
    """Make the next of a number of files, and tell whether one was missing."""
    for turn in range(times):
        with suppress(FileExistsError):
            (folder / f"turn {turn}").touch(exist_ok=False)
            return True
    return False


def killing_formula(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Make a formula trainer that kills its process at one configuration of the space."""

    def kill(config: TrialConfig, _epoch: int) -> None:
        if config.embedding_size == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)

    return FormulaTrainer(kill), {"device": "formula", "threads": threads}


def dying_formula(_split: Split, _threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Kill the process before there is a trainer."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


ENOUGH_STARTED = 13


def every_second_dying_formula(split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """End every second process before it has a trainer; the others end one trial and die in their next one.

    The first process stays until enough others have started, so that all others follow each other in one slot.
    """
    born = Path(os.environ["MTSEARCH_TEST_NOTES"])
    with born.open("ab", buffering=0) as file:
        file.write(b".")
        number = file.tell()
    if number == 2:
        return dying_formula(split, threads)
    if number % 2 == 0:
        os._exit(1)  # as an exception in Python would, once others have lived
    trained: list[TrialConfig] = []

    def live(config: TrialConfig, epoch: int) -> None:
        if epoch == 1:
            trained.append(config)
        while number == 1 and born.stat().st_size < ENOUGH_STARTED:
            time.sleep(0.05)
        if 1 < number < ENOUGH_STARTED and len(trained) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    return FormulaTrainer(live), {"device": "formula", "threads": threads}


def quick_formula(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Make a formula trainer for a worker that takes 0.02 s per epoch."""
    return FormulaTrainer(_sleeping(0.02)), {"device": "formula", "threads": threads}


class _Constant(FormulaTrainer):
    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        return super().train(config.model_copy(update={"learning_rate": 0.1, "retrieval_weight": 0.1}), on_epoch)


def constant_formula(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Make a trainer with the same metrics for every trial, which takes 0.05 s per epoch."""
    return _Constant(lambda _config, _epoch: time.sleep(0.05)), {"device": "formula", "threads": threads}


def gpu_recording_formula(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Make a formula trainer that writes down the GPUs that its process was started with."""

    def note(_config: TrialConfig, _epoch: int) -> None:
        environment = Path("/proc/self/environ").read_bytes().decode().split("\0")  # as it was when the process began
        seen = [entry for entry in environment if entry.startswith("CUDA_VISIBLE_DEVICES=")]
        Path(os.environ["MTSEARCH_TEST_NOTES"], str(os.getpid())).write_text("".join(seen))
        wait_for_all()

    return FormulaTrainer(note), {"device": "formula", "threads": threads}

"""A trainer that needs no TensorFlow: an exact formula in place of a model."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna

from mtsearch.config import TrialConfig
from mtsearch.data import Split
from mtsearch.errors import NonFiniteLoss
from mtsearch.objectives import METRICS
from mtsearch.search import liveness, runner
from mtsearch.trial import EpochMetrics, TrialResult

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
    """Diverges where the learning rate is above 0.9; `hook` is called before each epoch."""

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


def made_by(trainer: FormulaTrainer) -> Callable[[Split, int | None], tuple[FormulaTrainer, Mapping[str, Any]]]:
    """What `api.run` takes to make its trainer."""
    return lambda _split, _threads: (trainer, {"device": "formula", "threads": 1})


def wait_for_all() -> None:
    """Return once as many processes have come here as the fixture `together` asks for.

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
    """A hook for so long an epoch."""

    def sleep(_config: TrialConfig, _epoch: int) -> None:
        wait_for_all()
        time.sleep(seconds)

    return sleep


def slow_formula(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """The same from a worker's side: 0.1 s an epoch."""
    return FormulaTrainer(_sleeping(0.1)), {"device": "formula", "threads": threads}


def buggy(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Fails for a reason of its own."""

    def fail(_config: TrialConfig, _epoch: int) -> None:
        raise ZeroDivisionError("a bug")

    return FormulaTrainer(fail), {"device": "formula", "threads": threads}


def murderous(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """One configuration of the space kills its process."""

    def kill(config: TrialConfig, _epoch: int) -> None:
        if config.embedding_size == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)

    return FormulaTrainer(kill), {"device": "formula", "threads": threads}


def stillborn(_split: Split, _threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Kills its process before there is a trainer."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


ENOUGH_BORN = 13


def every_other_stillborn(split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """The same in every second process; in between, one that ends a trial and dies in its next.

    The very first keeps its seat until enough were born, so that all others follow each other on one.
    """
    born = Path(os.environ["MTSEARCH_TEST_NOTES"])
    with born.open("ab", buffering=0) as file:
        file.write(b".")
        number = file.tell()
    if number == 2:
        return stillborn(split, threads)
    if number % 2 == 0:
        os._exit(1)  # as an exception in Python would, once others have lived
    trained: list[TrialConfig] = []

    def live(config: TrialConfig, epoch: int) -> None:
        if epoch == 1:
            trained.append(config)
        while number == 1 and born.stat().st_size < ENOUGH_BORN:
            time.sleep(0.05)
        if 1 < number < ENOUGH_BORN and len(trained) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    return FormulaTrainer(live), {"device": "formula", "threads": threads}


def quick_formula(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """The same, 0.02 s an epoch."""
    return FormulaTrainer(_sleeping(0.02)), {"device": "formula", "threads": threads}


class _Constant(FormulaTrainer):
    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        return super().train(config.model_copy(update={"learning_rate": 0.1, "retrieval_weight": 0.1}), on_epoch)


def constant_formula(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """Every trial as good as every other, 0.05 s an epoch."""
    return _Constant(lambda _config, _epoch: time.sleep(0.05)), {"device": "formula", "threads": threads}


def brisk_formula(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """The slow formula in a worker that shows a sign of life every 0.2 s."""
    liveness.BEAT_SECONDS = 0.2
    return slow_formula(_split, threads)


def seeing_formula(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """The slow formula, which notes the GPUs that its process was begun with."""

    def note(_config: TrialConfig, _epoch: int) -> None:
        environment = Path("/proc/self/environ").read_bytes().decode().split("\0")  # as it was when the process began
        seen = [entry for entry in environment if entry.startswith("CUDA_VISIBLE_DEVICES=")]
        Path(os.environ["MTSEARCH_TEST_NOTES"], str(os.getpid())).write_text("".join(seen))
        wait_for_all()

    return FormulaTrainer(note), {"device": "formula", "threads": threads}


def hesitant_formula(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """The first of all workers that is given a trial never begins it."""
    original = runner.TrialRunner.run

    def sleep_once(*args: Any, **kwargs: Any) -> runner.TrialEnd:
        with suppress(FileExistsError):
            Path(os.environ["MTSEARCH_TEST_NOTES"]).touch(exist_ok=False)
            time.sleep(60)
        return original(*args, **kwargs)

    runner.TrialRunner.run = sleep_once  # type: ignore[method-assign]
    return brisk_formula(_split, threads)


def unheard_formula(_split: Split, threads: int | None) -> tuple[FormulaTrainer, Mapping[str, Any]]:
    """The first of all workers to store a trial dies before it can say so."""
    original = runner.end_of

    def die_once(study: optuna.Study, number: int, seconds: float) -> runner.TrialEnd:
        with suppress(FileExistsError):
            Path(os.environ["MTSEARCH_TEST_NOTES"]).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(study, number, seconds)

    runner.end_of = die_once
    return slow_formula(_split, threads)

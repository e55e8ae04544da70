"""Run the parts of `speed.py`, each in a separate process; the last line of stdout is JSON."""

import json
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mtsearch.data import Split, load, make_split
from mtsearch.evaluation import Evaluator
from mtsearch.models import Device, JointTrainer
from mtsearch.models.device import EpochOrder, EpochOrders, Index
from mtsearch.models.joint_scorer import ModelScorer
from mtsearch.models.members import Member
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import StudyDefinition

_START = time.perf_counter()

_IMPORTED = time.perf_counter()

# NOTE: of the quick study's front. At the tutorial's own weights of 1/1 the ratings are chaotic: rounding alone moves
# the final RMSE by 2 %, from the same start and at losses equal to 1e-7.
CHECKED = TrialConfig(retrieval_weight=0.05, learning_rate=0.3)


def main() -> None:
    """Run `mtsearch`, or check `published|advised`, or time `published|advised TRIALS SIZE ROWS_BY_USER`."""
    part, *rest = sys.argv[1:]
    if part == "mtsearch":
        figures = ours()
    elif rest:
        figures = timed(part, *map(int, rest))
    else:
        figures = checked(part)
    figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(figures))


def data() -> Split:
    definition = StudyDefinition.load("ml-100k-quick")
    return make_split(load(definition.data), definition.split)


def ours() -> dict[str, Any]:
    start = time.perf_counter()
    split = data()
    loaded = time.perf_counter()
    trainer = JointTrainer(split, Device.default())
    losses, metrics = replay(trainer, split)
    study = _study(trainer, split)
    from tests.benchmarks.work import flops

    return {
        "losses": losses,
        "metrics": metrics,
        "seconds": study["seconds"],
        "sizes": Counter(config.embedding_size for config in study["configs"]),
        "breakdown": {"import": _IMPORTED - _START, "data": loaded - start, **study["breakdown"]},
        "study_flops": sum(flops(split, config) for config in study["configs"]),
        "gflops": matrix_rate(None),
        "gflops_1": matrix_rate(1),
    }


def replay(trainer: JointTrainer, split: Split) -> tuple[list[float], dict[str, float]]:
    """Return the losses of every step, in the batch order of the rivals, and the final metrics."""
    with tf.device(trainer.device.name):
        compiled = trainer.compiled_model(CHECKED)
        compiled.reset(CHECKED)
        losses = []
        for _ in range(CHECKED.epochs):
            for batch in _batches(split):
                step = compiled.epoch(batch, CHECKED.batch_size)
                rating, retrieval = map(float, step.of_tasks)
                weighted = CHECKED.retrieval_weight * retrieval * len(batch.rows)
                losses.append(CHECKED.rating_weight * rating + weighted)
        return losses, Evaluator(split, split.validation).evaluate(
            ModelScorer([Member.present(compiled)], split.catalogue)
        )


def initial_weights(split: Split) -> dict[str, Any]:
    """Return mtsearch's initial weights of `CHECKED`, by the rival's layers in order."""
    # NOTE: not Device.default(), which sets threads: a rival runs with those that TensorFlow takes by itself.
    compiled = JointTrainer(split, Device("/CPU:0", 0, "as TensorFlow starts")).compiled_model(CHECKED)
    compiled.reset(CHECKED)
    model = compiled.model
    head = {str(number): weight for number, weight in enumerate(model.heads["rating"].get_weights())}
    return head | {"user_table": model.user_table.numpy(), "item_table": model.item_table.numpy()}


def checked(name: str) -> dict[str, Any]:
    """Return losses per step and final metrics of a rival that starts with the weights of mtsearch."""
    work = _RivalWork(name)
    model = work.model(CHECKED)
    model.start_from(initial_weights(work.split), strings=name == "published")
    losses = _Losses()
    result = work.train(model, [losses])
    metrics = {
        "rmse": result["root_mean_squared_error"],
        "top_100": result["factorized_top_k/top_100_categorical_accuracy"],
    }
    return {"losses": losses.values, "metrics": metrics}


def timed(name: str, trials: int, size: int, rows_by_user: int) -> dict[str, Any]:
    """Return the seconds of trials of an embedding size, each with making its model."""
    work = _RivalWork(name, bool(rows_by_user))
    seconds: list[float] = []
    cpu: list[float] = []
    for _ in range(trials):
        start, cpu_start = time.perf_counter(), time.process_time()
        work.train(work.model(CHECKED.model_copy(update={"embedding_size": size})))
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    return {"seconds": seconds, "cpu": cpu}


class _RivalWork:
    """A rival's model and data, in the rival's order of rows within a batch or in that of mtsearch."""

    def __init__(self, name: str, rows_by_user: bool = False) -> None:
        from tests.benchmarks import rivals

        self.split, self._strings = data(), name == "published"
        self._make = rivals.as_published if self._strings else rivals.as_advised
        self._batches = rivals.batches
        self._order = _order(self.split) if rows_by_user else _shuffled(_order(self.split))
        self._held_out = np.random.default_rng(2).permutation(len(self.split.validation)).astype(np.int32)

    def model(self, config: TrialConfig) -> Any:
        return self._make(self.split, config)

    def train(self, model: Any, callbacks: Sequence[Any] = ()) -> dict[str, float]:
        """Train and evaluate, and return the metrics."""
        split, size = self.split, CHECKED.batch_size
        train = self._batches(split, split.train, self._order, size, self._strings)
        held_out = self._batches(split, split.validation, self._held_out, 4096, self._strings)
        model.fit(train, epochs=CHECKED.epochs, verbose=0, callbacks=list(callbacks))
        result: dict[str, float] = model.evaluate(held_out, return_dict=True, verbose=0)
        return result


def _order(split: Split) -> Index:
    return EpochOrders(split.train.items).draw(CHECKED.batch_size, CHECKED.seed, 1).rows


def _shuffled(order: Index) -> Index:
    """Return the same batches with their rows in random order; mtsearch has them by user."""
    rng, size = np.random.default_rng(1), CHECKED.batch_size
    return np.concatenate([rng.permutation(order[start : start + size]) for start in range(0, len(order), size)])


def _batches(split: Split) -> list[EpochOrder]:
    """Return the rivals' batches, each as a separate epoch."""
    order = _order(split)
    batches = np.split(order, range(CHECKED.batch_size, len(order), CHECKED.batch_size))
    return [
        EpochOrder(batch, np.argsort(split.train.items[batch], kind="stable").astype(np.int32)) for batch in batches
    ]


class _Losses(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that collects the loss of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.values.append(float((logs or {})["loss"]))


def _study(trainer: JointTrainer, split: Split) -> dict[str, Any]:
    """Run 50 trials of the quick study in this process, and time each part."""
    from mtsearch import api

    seconds: dict[int, list[float]] = defaultdict(list)
    phases: dict[str, float] = {}
    configs: list[TrialConfig] = []

    class Timed:
        def train(self, config: TrialConfig, on_epoch: Any) -> Any:
            result = trainer.train(config, on_epoch)
            seconds[config.embedding_size].append(sum(result.seconds.values()))
            configs.append(config)
            for name, value in result.seconds.items():
                phases[name] = phases.get(name, 0.0) + value
            return result

    assert isinstance(trainer, JointTrainer)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        made = (Timed(), {"device": trainer.device.description, "threads": trainer.device.threads})
        definition = StudyDefinition.load("ml-100k-quick")
        api.run(definition, 50, storage=str(Path(folder) / "a.db"), make_trainer=lambda *_: made)
        total = time.perf_counter() - start
    rest = {"storage, sampling and bookkeeping": total - sum(map(sum, seconds.values()))}
    return {"seconds": seconds, "configs": configs, "breakdown": phases | rest}


def matrix_rate(threads: int | None) -> float:
    """Return the GFLOP/s of float32 matrix products in a process with a number of threads."""
    import subprocess

    code = f"""
import time
from mtsearch.models import Device
Device.default({threads})
import tensorflow as tf
matrix = tf.random.stateless_normal([2048, 2048], seed=[1, 2])
product = tf.function(lambda: tf.matmul(matrix, matrix))
times = []
for _ in range(30):
    start = time.perf_counter()
    product().numpy()
    times.append(time.perf_counter() - start)
print(2 * 2048**3 / sorted(times)[15] / 1e9)
"""
    rates = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    return statistics.median(rates)


if __name__ == "__main__":
    main()

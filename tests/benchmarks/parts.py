"""The parts of `speed.py`, each run in a process of its own; the last line of stdout is JSON."""

import json
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

_START = time.perf_counter()

import numpy as np  # noqa: E402 - the clock of the imports runs
import tensorflow as tf  # noqa: E402

from mtsearch.config import TrialConfig  # noqa: E402
from mtsearch.data import Split, load, make_split  # noqa: E402
from mtsearch.definition import StudyDefinition  # noqa: E402
from mtsearch.evaluation import Evaluator  # noqa: E402
from mtsearch.recsys import Device, JointTrainer  # noqa: E402
from mtsearch.recsys.batches import EpochOrder, EpochOrders, Index  # noqa: E402
from mtsearch.recsys.scorer import ModelScorer  # noqa: E402

_IMPORTED = time.perf_counter()

# NOTE: of the quick study's front. At the tutorial's own weights of 1/1 the ratings are chaotic: rounding alone moves
# the final RMSE by 2 %, from the same start and at losses equal to 1e-7.
CHECKED = TrialConfig(retrieval_weight=0.05, learning_rate=0.3)


def main() -> None:
    """`mtsearch`, or `published|advised TRIALS SIZE...`."""
    part, *rest = sys.argv[1:]
    figures = ours() if part == "mtsearch" else rival(part, *map(int, rest))
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
    """Losses of every step, in the batch order that the rivals are given, and the final metrics."""
    with tf.device(trainer.device.name):
        compiled = trainer._model_of(CHECKED)
        compiled.reset(CHECKED)
        losses = []
        for _ in range(CHECKED.epochs):
            for batch in _batches(split):
                step = compiled.epoch(batch, CHECKED.batch_size)
                weighted = CHECKED.retrieval_weight * float(step.retrieval) * len(batch.rows)
                losses.append(CHECKED.rating_weight * float(step.rating) + weighted)
        return losses, Evaluator(split, split.validation).evaluate(ModelScorer(compiled, split.catalogue))


def initial_weights(split: Split) -> dict[str, Any]:
    """What mtsearch starts `CHECKED` with, by the rival's layers in order."""
    # NOTE: not Device.default(), which sets threads: a rival runs with those that TensorFlow takes by itself. Two
    # inter-op
    # threads in place of one make the published model take up to twice the time on 2 cores.
    compiled = JointTrainer(split, Device("/CPU:0", 0, "as TensorFlow starts"))._model_of(CHECKED)
    compiled.reset(CHECKED)
    model = compiled.model
    head = {str(number): weight for number, weight in enumerate(model.rating_layers.get_weights())}
    return head | {"user_table": model.user_table.numpy(), "item_table": model.item_table.numpy()}


def rival(name: str, trials: int, *sizes: int) -> dict[str, Any]:
    """Train as the rival does, some trials of each embedding size, all timed; the first of `CHECKED` is checked."""
    from tests.benchmarks import rivals

    split = data()
    weights = initial_weights(split)
    strings, make = name == "published", rivals.as_published if name == "published" else rivals.as_advised
    order = _shuffled(_order(split))
    rows = np.arange(len(split.validation), dtype=np.int32)
    figures: dict[str, Any] = {"seconds": {}, "cpu": {}}
    for size in (CHECKED.embedding_size, *(size for size in sizes if size != CHECKED.embedding_size)):
        figures["seconds"][size], figures["cpu"][size] = seconds, cpu = [], []
        for _ in range(trials):
            checked, losses = "losses" not in figures, _Losses()
            start, cpu_start = time.perf_counter(), time.process_time()
            model = make(split, CHECKED.model_copy(update={"embedding_size": size}))
            if checked:
                model.start_from(weights, strings)
            train = rivals.batches(split, split.train, order, CHECKED.batch_size, strings)
            held_out = rivals.batches(split, split.validation, rows, 4096, strings)
            model.fit(train, epochs=CHECKED.epochs, verbose=0, callbacks=[losses] if checked else [])
            result = model.evaluate(held_out, return_dict=True, verbose=0)
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
            if checked:
                figures["losses"] = losses.values
                figures["metrics"] = {
                    "rmse": result["root_mean_squared_error"],
                    "top_100": result["factorized_top_k/top_100_categorical_accuracy"],
                }
    return figures


def _order(split: Split) -> Index:
    return EpochOrders(split.train.items).draw(CHECKED.batch_size, CHECKED.seed, 1).rows


def _shuffled(order: Index) -> Index:
    """The same batches, their rows in random order, as a shuffled data set has them.

    NOTE: mtsearch has a batch's rows by user. Fed with these the published model takes half the time: 17 s a trial in
    place of 31.
    """
    rng, size = np.random.default_rng(1), CHECKED.batch_size
    return np.concatenate([rng.permutation(order[start : start + size]) for start in range(0, len(order), size)])


def _batches(split: Split) -> list[EpochOrder]:
    """The rivals' batches, each as an epoch of its own."""
    order = _order(split)
    batches = np.split(order, range(CHECKED.batch_size, len(order), CHECKED.batch_size))
    return [
        EpochOrder(batch, np.argsort(split.train.items[batch], kind="stable").astype(np.int32)) for batch in batches
    ]


class _Losses(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """The loss of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.values.append(float((logs or {})["loss"]))


def _study(trainer: JointTrainer, split: Split) -> dict[str, Any]:
    """50 trials of the quick study in this process, with the clock on each part."""
    from mtsearch import api
    from mtsearch.recsys import JointTrainer as Trainer

    seconds: list[float] = []
    phases: dict[str, float] = {}
    configs: list[TrialConfig] = []

    class Timed:
        def train(self, config: TrialConfig, on_epoch: Any) -> Any:
            result = trainer.train(config, on_epoch)
            seconds.append(sum(result.seconds.values()))
            configs.append(config)
            for name, value in result.seconds.items():
                phases[name] = phases.get(name, 0.0) + value
            return result

    assert isinstance(trainer, Trainer)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        made = (Timed(), {"device": trainer.device.description, "threads": trainer.device.threads})
        definition = StudyDefinition.load("ml-100k-quick")
        api.run(definition, 50, storage=str(Path(folder) / "a.db"), make_trainer=lambda *_: made)
        total = time.perf_counter() - start
    rest = {"storage, sampling and bookkeeping": total - sum(seconds)}
    return {"seconds": seconds, "configs": configs, "breakdown": phases | rest}


def matrix_rate(threads: int | None) -> float:
    """GFLOP/s of float32 matrix products in a process of that many threads."""
    import subprocess

    code = f"""
import time
from mtsearch.recsys import Device
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

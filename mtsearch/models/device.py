"""Set up the device that trains, trace graphs for it, and feed it the training rows in batches."""

from __future__ import annotations

import gc
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.eager import context
from tensorflow.python.framework import ops

from mtsearch.data.interactions import Rows
from mtsearch.errors import MachineError, OutOfMemory
from mtsearch.host import free_gpu_memory, free_memory, usable_cores
from mtsearch.study_file.config import TrialConfig


@dataclass(frozen=True)
class Device:
    """A TensorFlow device, prepared once per process.

    Attributes:
        name: TensorFlow's name of it, `/GPU:0` or `/CPU:0`.
        threads: number of threads of one operation on the CPU; the exact results of a trial depend on it.
        description: name for people.
        xla: True if XLA compiles the training of the joint model: on a GPU, where it takes fewer and larger steps.
    """

    name: str
    threads: int
    description: str
    xla: bool = False

    @classmethod
    def default(cls, threads: int | None = None) -> Device:
        """Return the first GPU that TensorFlow sees, else the CPU; `threads` defaults to the usable cores.

        Raises:
            MachineError: TensorFlow already runs in this process with another number of threads.
        """
        threads = threads or usable_cores()
        _set_threads(threads)
        _set_xla_flags()
        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            # NOTE: without memory growth the first process takes all memory of the card and the second gets none.
            tf.config.experimental.set_memory_growth(gpu, True)
        if gpus:
            details = tf.config.experimental.get_device_details(gpus[0])
            # NOTE: by default the factors of a float32 product are rounded to 10 bits there, and the ranks with them.
            tf.config.experimental.enable_tensor_float_32_execution(False)
            return cls("/GPU:0", threads, str(details.get("device_name", "GPU")), xla=True)
        return cls("/CPU:0", threads, f"CPU, {threads} thread{'s' if threads > 1 else ''}")

    @property
    def is_gpu(self) -> bool:
        """True for a GPU, which has memory separate from the host's."""
        return "GPU" in self.name

    def free_memory(self) -> int | None:
        """Return the free memory of the device in bytes; None if it is unknown."""
        return free_gpu_memory() if self.is_gpu else free_memory()

    @contextmanager
    def training(self, config: TrialConfig) -> Iterator[None]:
        """Run everything inside the context on this device.

        Raises:
            OutOfMemory: the model of `config` does not fit into the memory of the device.
        """
        try:
            with tf.device(self.name):
                yield
        except (tf.errors.ResourceExhaustedError, MemoryError):
            raise OutOfMemory(
                f"out of memory on {self.name} at embedding_size {config.embedding_size} "
                f"and batch_size {config.batch_size}",
                "lower embedding_size or batch_size",
            ) from None


def _set_xla_flags() -> None:
    """Let XLA take the first way of each matrix product that is known to work, unless XLA_FLAGS says otherwise.

    NOTE: trying all ways out takes a third of compiling a model (H200: 1.5 of 5 s) and makes training 5 % faster, and
    another process may find another way, whose results differ in the last bits.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_autotune_level" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_autotune_level=0".strip()


def _set_threads(threads: int) -> None:
    """Set the number of threads of TensorFlow, or refuse if TensorFlow already runs with another one."""
    threading = tf.config.threading
    if (threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()) == (threads, 1):
        return
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        raise MachineError(
            f"TensorFlow already runs in this process; its number of threads cannot be changed to {threads}",
            "make the trainer before the first TensorFlow operation, or in a separate process",
        ) from None


def trace(graph: Callable[..., Any], *signature: tf.TensorSpec, xla: bool = False) -> Callable[..., Any]:
    """Trace `graph` now, as one TensorFlow function that is never traced again; with `xla`, XLA compiles it."""
    with _unregister_custom_gradients():
        traced = tf.function(graph, autograph=False, jit_compile=xla or None)
        function: Callable[..., Any] = traced.get_concrete_function(*signature)
    return function


def release_dropped() -> None:
    """Free the memory of TensorFlow functions that are no longer in use.

    NOTE: 0.9 MB for each model; the context keeps the kernels of a deleted function. There is no public way.
    """
    gc.collect()
    context.context().clear_kernel_cache()


@contextmanager
def _unregister_custom_gradients() -> Iterator[None]:
    """Unregister the custom gradients that are traced inside the context.

    The traced graph has its gradients already.

    NOTE: TensorFlow registers every trace of a `tf.custom_gradient` for the life of the process, and with it the whole
    graph: 7 MB for each model. Its registry has no public way to take something out.
    """
    # The registry is compared before and after, and the new entries are removed.
    registered: dict[str, Any] = getattr(ops.gradient_registry, "_registry", {})
    before = set(registered)
    yield
    for name in set(registered) - before:
        if name.startswith("CustomGradient-"):
            del registered[name]


Index = NDArray[np.int32]

_SORTED_ROWS = 2**20


class EpochOrder(NamedTuple):
    """The order in which an epoch visits the training rows, cut into consecutive batches.

    The last batch has the remaining rows.

    Attributes:
        rows: `[N]` a permutation of 0..N-1, ascending inside each batch.
        by_item: `[N]` indices within the batch, 0..B-1, in the order of their items.
    """

    rows: Index
    by_item: Index


_KEPT_ORDERS = 32 * 2**20
"""Memory of orders that are kept, in bytes: of MovieLens 100K, 58 epochs."""


class EpochOrders:
    """Random partitions of the training rows into batches, one per epoch.

    The trials of a study have one seed, and so the same partitions: the ones used last are kept.

    Training rows are sorted by user, so the rows of a batch are too, and sums over a user's rows are sums over
    neighbours; `by_item` does the same for items. The loss of a batch does not depend on the order of its rows.

    Args:
        items: `[N]` items of the training rows.
    """

    def __init__(self, items: Index) -> None:
        self._items = items.astype(_shortest_type(int(items.max(initial=0))))
        self._most_kept = _KEPT_ORDERS // (2 * np.dtype(np.int32).itemsize * max(1, len(items)))
        self._kept: OrderedDict[tuple[int, int, int], EpochOrder] = OrderedDict()

    def draw(self, batch_size: int, seed: int, epoch: int) -> EpochOrder:
        """Return the order of an epoch, drawn by a counter-based generator keyed by (seed, epoch).

        Args:
            batch_size: B.
            seed: seed of the trial.
            epoch: 1-based.
        """
        key = batch_size, seed, epoch
        order = self._kept.pop(key, None) or self._draw(*key)
        if self._most_kept:
            self._kept[key] = order
            if len(self._kept) > self._most_kept:
                self._kept.popitem(last=False)
        return order

    def _draw(self, batch_size: int, seed: int, epoch: int) -> EpochOrder:
        """Draw an order; the same arguments give the same one."""
        size = len(self._items)
        # A shuffled index over the batch size is the batch of a row; a stable sort by batch keeps users ascending.
        batch_of_row = np.arange(size, dtype=np.int32)
        np.random.Generator(np.random.Philox(key=[seed, epoch])).shuffle(batch_of_row)
        batch_of_row //= batch_size
        batches = -(-size // batch_size)
        rows = np.argsort(batch_of_row.astype(_shortest_type(batches)), kind="stable").astype(np.int32)
        return EpochOrder(rows, _sort_within_batches(self._items[rows], batch_size))


def _sort_within_batches(values: NDArray[np.integer], batch_size: int) -> Index:
    """Sort the values of each batch; return their indices in the batch, `[N]`, ties in old order.

    NOTE: for 24.5 million rows in batches of 8,192 on one busy core 0.8 s; to sort all rows by item once, which takes
    2.9 s, and then by batch in each epoch 2.8 s. A whole draw takes 4 s, of an epoch of minutes.
    """
    # Whole batches are sorted many at a time, as the rows of a matrix; the shorter last batch is sorted by itself.
    order = np.empty(len(values), np.int32)
    whole = len(values) // batch_size * batch_size
    step = max(1, _SORTED_ROWS // batch_size) * batch_size
    for start in range(0, whole, step):
        end = min(start + step, whole)
        order[start:end] = np.argsort(values[start:end].reshape(-1, batch_size), axis=1, kind="stable").reshape(-1)
    order[whole:] = np.argsort(values[whole:], kind="stable")
    return order


def _shortest_type(most: int) -> type[np.unsignedinteger | np.signedinteger]:
    """Return the shortest integer type for numbers up to `most`.

    NOTE: a stable sort of 16-bit numbers is a radix sort: 72,000 rows in 9 or 71 batches take 0.5 or 0.2 ms, and 1.7 or
    2.6 ms with 32 bits.
    """
    return np.uint16 if most <= np.iinfo(np.uint16).max else np.int32


_BLOCK_ROWS = 2**19


class TrainingRows(NamedTuple):
    """The training rows as tensors, `[N]` each.

    Attributes:
        users, items: int32.
        targets: float32, what the tasks learn; NaN for rows that do not serve one.
        weights: float32, factors of the rows' losses, one array; none if all are 1.
    """

    users: tf.Tensor
    items: tf.Tensor
    targets: tuple[tf.Tensor, ...]
    weights: tuple[tf.Tensor, ...] = ()

    @classmethod
    def of(cls, rows: Rows, targets: Sequence[NDArray[np.float32]]) -> TrainingRows:
        """Copy rows and what the tasks learn from them to the current device."""
        weights = () if rows.weights is None else (tf.constant(rows.weights),)
        return cls(tf.constant(rows.users), tf.constant(rows.items), tuple(map(tf.constant, targets)), weights)

    def take(self, index: tf.Tensor) -> TrainingRows:
        """Return the rows at `index`."""
        users, items = tf.gather(self.users, index), tf.gather(self.items, index)
        further = (tuple(tf.gather(each, index) for each in columns) for columns in (self.targets, self.weights))
        return TrainingRows(users, items, *further)


class Block(NamedTuple):
    """Some whole batches of an epoch; the last batch of the last block has the remaining rows.

    Attributes:
        table: the rows that `rows` refers to.
        rows: `[n]` int32, index into `table`, batch after batch.
        by_item: `[n]` int32; see `EpochOrder`.
        size: number of `rows` that count; behind them the last row fills whole batches, where asked for.
    """

    table: TrainingRows
    rows: tf.Tensor
    by_item: tf.Tensor
    size: int


class InputPipeline:
    """The training rows, delivered block by block for each epoch.

    The batches are the same whether the rows are on the device or on the host.

    Args:
        rows: sorted by user.
        targets: `[N]` each, what the tasks learn from them.
        resident_bytes: memory of the device for the rows, 4 bytes a number, and the order of an epoch, 8 a row. If they
            take more, they stay on the host, and `tf.data` gathers the next block while the device trains on this one.
            None: no limit.
        block_rows: number of rows of a block; it has at least one batch.
    """

    def __init__(
        self,
        rows: Rows,
        targets: Sequence[NDArray[np.float32]],
        resident_bytes: int | None = None,
        block_rows: int = _BLOCK_ROWS,
    ) -> None:
        self.size = len(rows)
        columns = 2 + 2 + len(targets) + (rows.weights is not None)
        needed = columns * np.dtype(np.float32).itemsize * self.size
        self.is_resident = resident_bytes is None or needed <= resident_bytes
        self._block_rows = block_rows
        if self.is_resident:
            self._rows = TrainingRows.of(rows, targets)
        else:
            with tf.device("/CPU:0"):
                self._rows = TrainingRows.of(rows, targets)

    def first(self) -> TrainingRows:
        """Return the first row."""
        return self._rows.take(tf.constant([0]))

    def epoch(self, order: EpochOrder, batch_size: int, whole: bool = False) -> Iterator[Block]:
        """Yield the blocks of one epoch, with the rows in `order`; with `whole`, of whole batches."""
        size = len(order.rows)
        if self.is_resident:
            rows = _fill(order.rows, batch_size) if whole else order.rows
            yield Block(self._rows, tf.constant(rows), tf.constant(order.by_item), size)
            return
        step = max(1, self._block_rows // batch_size) * batch_size
        filled = order._replace(rows=_fill(order.rows, batch_size)) if whole else order
        for number, block in enumerate(self._stream_blocks(filled, step)):
            yield block._replace(size=min(step, size - number * step))

    def _stream_blocks(self, order: EpochOrder, step: int) -> Iterator[Block]:
        """Yield blocks whose rows are gathered on the host, the next one while the device trains."""
        with tf.device("/CPU:0"):
            rows, by_item = tf.constant(order.rows), tf.constant(order.by_item)

            def block(start: tf.Tensor) -> Block:
                taken = rows[start : start + step]
                return Block(self._rows.take(taken), tf.range(tf.size(taken)), by_item[start : start + step], step)

            options = tf.data.Options()
            options.autotune.enabled = False  # NOTE: its threads sleep 0.3-0.9 s at every start
            starts = tf.data.Dataset.range(0, len(order.rows), step)
            yield from starts.map(block).prefetch(1).with_options(options)


def _fill(rows: Index, multiple: int) -> Index:
    """Return rows with the last one repeated, up to a multiple of a number."""
    return np.pad(rows, (0, -len(rows) % multiple), mode="edge")

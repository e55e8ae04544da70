"""Where tensors live and how many threads compute on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import tensorflow as tf

from mtsearch.config import TrialConfig
from mtsearch.errors import MachineError, OutOfMemory
from mtsearch.machine import free_gpu_memory, free_memory, usable_cores


@dataclass(frozen=True)
class Device:
    """A TensorFlow device, made ready once per process.

    Attributes:
        name: as TensorFlow names it, `/GPU:0` or `/CPU:0`.
        threads: of one operation on the CPU; part of what makes a trial's bits.
        description: for people.
    """

    name: str
    threads: int
    description: str

    @classmethod
    def default(cls, threads: int | None = None) -> "Device":
        """The first GPU that TensorFlow sees, else the CPU; `threads` defaults to the usable cores.

        Raises:
            MachineError: TensorFlow runs already in this process with another number of threads.
        """
        threads = threads or usable_cores()
        _set_threads(threads)
        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            # NOTE: without growth the first process takes the whole card and the second finds none.
            tf.config.experimental.set_memory_growth(gpu, True)
        if gpus:
            details = tf.config.experimental.get_device_details(gpus[0])
            return cls("/GPU:0", threads, str(details.get("device_name", "GPU")))
        return cls("/CPU:0", threads, f"CPU, {threads} thread{'s' if threads > 1 else ''}")

    @property
    def is_gpu(self) -> bool:
        """Whether it has memory of its own."""
        return "GPU" in self.name

    def free_memory(self) -> int | None:
        """Bytes that nobody has taken yet; None where it does not say."""
        return free_gpu_memory() if self.is_gpu else free_memory()

    @contextmanager
    def training(self, config: TrialConfig) -> Iterator[None]:
        """Within it, everything runs there.

        Raises:
            OutOfMemory: the model of `config` does not fit into its memory.
        """
        try:
            with tf.device(self.name):
                yield
        except (tf.errors.ResourceExhaustedError, MemoryError):
            raise OutOfMemory(
                f"out of memory on {self.name} at embedding_size {config.embedding_size} "
                f"and batch_size {config.batch_size}",
                "lower one of them",
            ) from None


def _set_threads(threads: int) -> None:
    threading = tf.config.threading
    if (threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()) == (threads, 1):
        return
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        raise MachineError(
            f"TensorFlow is running in this process and cannot be set to {threads} threads any more",
            "make the trainer before the first TensorFlow operation, or in a process of its own",
        ) from None

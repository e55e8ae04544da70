"""Graphs that are traced once and leave nothing behind when they go: what TensorFlow keeps of them is taken out."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import ops


def traced(graph: Callable[..., Any], *signature: tf.TensorSpec) -> Callable[..., Any]:
    """`graph` as one TensorFlow function, traced here and now, never again."""
    with _custom_gradients_forgotten():
        function: Callable[..., Any] = tf.function(graph, autograph=False).get_concrete_function(*signature)
    return function


def release_dropped() -> None:
    """Give back the memory of functions that nobody holds any more.

    NOTE: 0.9 MB for each model; the context keeps the kernels of a deleted function. There is no public way.
    """
    gc.collect()
    context.context().clear_kernel_cache()


@contextmanager
def _custom_gradients_forgotten() -> Iterator[None]:
    """Unregister the custom gradients that are traced within it: the traced graph has its gradients already.

    NOTE: TensorFlow registers every trace of a `tf.custom_gradient` for the life of the process, and with it the whole
    graph: 7 MB for each model. Its registry has no public way to take something out.
    """
    registered: dict[str, Any] = getattr(ops.gradient_registry, "_registry", {})
    before = set(registered)
    yield
    for name in set(registered) - before:
        if name.startswith("CustomGradient-"):
            del registered[name]

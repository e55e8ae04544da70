"""Factors of the two losses that follow from how training goes."""

from collections.abc import Mapping, Sequence

import numpy as np

TASKS = ("rating", "retrieval")
_TEMPERATURE = 2.0  # of the paper


def dynamic_weight_average(losses: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """Factors of the next epoch: the loss that fell less gets more; 1 and 1 before there are two epochs.

    With r_k = L_k(t-1) / L_k(t-2) they are 2 * softmax(r / 2): Liu, Johns, Davison, "End-to-end multi-task learning
    with attention", CVPR 2019.

    Args:
        losses: mean losses of every epoch so far, by task.
    """
    if len(losses) < 2:
        return 1.0, 1.0
    # A loss of 0 stays at 0: its ratio is 1.
    ratios = np.array([losses[-1][task] / losses[-2][task] if losses[-2][task] else 1.0 for task in TASKS])
    shares = np.exp((ratios - ratios.max()) / _TEMPERATURE)
    first, second = len(TASKS) * shares / shares.sum()
    return float(first), float(second)

"""Who is better than whom where there are several objectives: non-dominated layers, and the order within one.

In every array a row is a vector [m] of m losses, lower is better. A vector dominates another where it is nowhere higher
and somewhere lower.
"""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def non_dominated_layers(vectors: ArrayLike) -> Integers:
    """The layer of each vector: 0 where none dominates it, 1 where only those of layer 0 do, and so on.

    Equal vectors share a layer. Vectors with NaN or an infinity make a last layer together. Whatever is done to the
    objectives (permuted, rescaled monotonically), the layers stay. Efficient non-dominated sorting with binary search:
    Zhang, Tian, Cheng, Jin, "An efficient approach to nondominated sorting for evolutionary multiobjective
    optimization", IEEE Transactions on Evolutionary Computation 19, 2015.

    Args:
        vectors: losses, [n, m].

    Returns:
        [n], in the order of the vectors.
    """
    losses = as_vectors(vectors)
    finite = np.isfinite(losses).all(axis=1)
    # Sorted, each once: whatever dominates a row stands before it.
    rows, places = distinct(losses[finite])
    members: list[list[int]] = []
    for index in range(len(rows)):
        layer = _first_without_better(rows, members, index)
        if layer == len(members):
            members.append([])
        members[layer].append(index)
    layer_of = np.zeros(len(rows), dtype=np.int64)
    for layer, indices in enumerate(members):
        layer_of[indices] = layer
    layers = np.full(len(losses), len(members), dtype=np.int64)
    layers[finite] = layer_of[places]
    return layers


def _first_without_better(rows: Floats, members: Sequence[Sequence[int]], index: int) -> int:
    """The first layer with nobody who dominates the row: whatever a layer dominates, all before it do too."""
    row = rows[index]
    return bisect_left(members, True, key=lambda layer: not (rows[layer] <= row).all(axis=1).any())


def covering_order(points: ArrayLike) -> Integers:
    """An order in which however few of the first points cover all of them: an epsilon-net.

    First the point nearest the lowest corner, then always the one farthest from those before it (Euclidean); of equals
    the first. Non-dominated sorting with this order inside a layer is due to Salinas, Perrone, Cruchant, Archambeau, "A
    multi-objective perspective on jointly tuning hardware and hyperparameters", 2021, who begin with the best of the
    first objective, so that the order of the objectives matters.

    Args:
        points: [n, m], each objective scaled to between 0 and 1, n at least 1.

    Returns:
        Indices [n]: at k stands which point is the k-th, not the place of point k.
    """
    scaled = as_vectors(points)
    order = [int(np.argmin(np.linalg.norm(scaled, axis=1)))]
    distance = np.full(len(scaled), np.inf)
    while len(order) < len(scaled):
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
        distance[order] = -1.0
        order.append(int(np.argmax(distance)))
    return np.array(order, dtype=np.int64)


def scaled_to_unit(vectors: Floats) -> Floats:
    """Each objective from 0, the lowest of the finite vectors, to 1, the highest; 0 where they are the same.

    A vector that is not finite becomes NaN.
    """
    finite = np.isfinite(vectors).all(axis=1)
    scaled = np.full_like(vectors, np.nan)
    if finite.any():
        halves = vectors[finite] / 2  # the range of finite numbers may be none
        low = halves.min(axis=0)
        width = halves.max(axis=0) - low
        scaled[finite] = (halves - low) / np.where(width > 0, width, 1.0)
    return scaled


def distinct(vectors: Floats) -> tuple[Floats, Integers]:
    """The different rows, [k, m] in lexicographic order, and for each vector, [n], which of them it is."""
    if not len(vectors):
        return vectors, np.zeros(0, dtype=np.int64)
    rows, places = np.unique(vectors, axis=0, return_inverse=True)
    return rows, places.reshape(-1).astype(np.int64)


def as_vectors(vectors: ArrayLike) -> Floats:
    """As an array [n, m].

    Raises:
        ValueError: they are none, or have no objective.
    """
    array = np.asarray(vectors, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"vectors of shape {array.shape}: one row per vector, one column per objective")
    return array

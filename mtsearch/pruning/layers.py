"""Ranking of vectors with several objectives: non-dominated layers, and an order of the vectors in one layer.

In every array a row is a vector [m] of m losses, lower is better. A vector dominates another if it is higher in no loss
and lower in at least one.
"""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def non_dominated_layers(vectors: ArrayLike) -> Integers:
    """Return the layer of each vector: 0 if no vector dominates it, 1 if only vectors of layer 0 do, and so on.

    Equal vectors share a layer. Vectors with NaN or an infinity form the last layer together. The layers do not change
    if the objectives are permuted or rescaled monotonically. Efficient non-dominated sorting with binary search:
    Zhang, Tian, Cheng, Jin, "An efficient approach to nondominated sorting for evolutionary multiobjective
    optimization", IEEE Transactions on Evolutionary Computation 19, 2015.

    Args:
        vectors: losses, [n, m].

    Returns:
        [n], 0-based layers in the order of the vectors.

    Raises:
        ValueError: the vectors are not a table, or have no objective.
    """
    losses = as_vectors(vectors)
    finite = np.isfinite(losses).all(axis=1)
    # The different rows in lexicographic order: every row that dominates another comes before it. So each row goes into
    # the first layer that has no row before it that dominates it.
    rows, places = distinct_rows(losses[finite])
    members: list[list[int]] = []
    for index in range(len(rows)):
        layer = _find_layer(rows, members, index)
        if layer == len(members):
            members.append([])
        members[layer].append(index)
    # Give each layer's number to its rows, and each row's to the vectors that are equal to it.
    layer_of = np.zeros(len(rows), dtype=np.int64)
    for layer, indices in enumerate(members):
        layer_of[indices] = layer
    layers = np.full(len(losses), len(members), dtype=np.int64)
    layers[finite] = layer_of[places]
    return layers


def _find_layer(rows: Floats, members: Sequence[Sequence[int]], index: int) -> int:
    """Return the first layer that holds no row dominating the row of this index.

    Binary search finds it: if a layer holds a row that dominates this one, so does every layer before it.

    Args:
        rows: different vectors, [k, m], in lexicographic order.
        members: indices of the rows in each layer so far.
        index: of the row.
    """
    row = rows[index]
    return bisect_left(members, True, key=lambda layer: not (rows[layer] <= row).all(axis=1).any())


def covering_order(points: ArrayLike) -> Integers:
    """Return an order of points in which the first few, whatever their number, cover all points (an epsilon-net).

    The first point is the one nearest to the lowest corner. Each next point is the one farthest from those before it
    (Euclidean), and the first of several such points. Non-dominated sorting with this order inside a layer is due to
    Salinas, Perrone, Cruchant, Archambeau, "A multi-objective perspective on jointly tuning hardware and
    hyperparameters", 2021. They begin with the best point of the first objective, so that the order of the objectives
    matters.

    Args:
        points: [n, m], each objective scaled to between 0 and 1, n at least 1.

    Returns:
        Indices [n]: element k is the index of the k-th point in this order, not the place of point k.
    """
    scaled = as_vectors(points)
    order = [int(np.argmin(np.linalg.norm(scaled, axis=1)))]
    distance = np.full(len(scaled), np.inf)
    while len(order) < len(scaled):
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
        distance[order] = -1.0
        order.append(int(np.argmax(distance)))
    return np.array(order, dtype=np.int64)


def scale_to_unit(vectors: Floats) -> Floats:
    """Scale each objective to 0 (the lowest of the finite vectors) to 1 (the highest); 0 if all values are the same.

    A vector that is not finite becomes NaN.

    Args:
        vectors: losses, [n, m].
    """
    finite = np.isfinite(vectors).all(axis=1)
    scaled = np.full_like(vectors, np.nan)
    if finite.any():
        halves = vectors[finite] / 2  # the difference of two finite numbers may be infinite, that of their halves not
        low = halves.min(axis=0)
        width = halves.max(axis=0) - low
        scaled[finite] = (halves - low) / np.where(width > 0, width, 1.0)
    return scaled


def distinct_rows(vectors: Floats) -> tuple[Floats, Integers]:
    """Return the different rows, [k, m] in lexicographic order, and the index of each vector's row, [n]."""
    if not len(vectors):
        return vectors, np.zeros(0, dtype=np.int64)
    rows, places = np.unique(vectors, axis=0, return_inverse=True)
    return rows, places.reshape(-1).astype(np.int64)


def as_vectors(vectors: ArrayLike) -> Floats:
    """Return the vectors as an array [n, m].

    Raises:
        ValueError: the vectors are not a table, or have no objective.
    """
    array = np.asarray(vectors, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"vectors of shape {array.shape}: give one row per vector, one column per objective")
    return array

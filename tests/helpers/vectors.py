"""Random objective vectors, and non-dominated layers computed literally from their definition."""

import math
from collections.abc import Sequence

from hypothesis import strategies as st

Vectors = list[tuple[float, ...]]

SMALL = st.integers(-3, 3).map(float)  # so that many are equal
ANY = st.floats(allow_nan=False, allow_infinity=False)
BROKEN = st.sampled_from([math.nan, math.inf, -math.inf])


@st.composite
def vectors(
    draw: st.DrawFn, numbers: st.SearchStrategy[float] = SMALL | ANY, smallest: int = 0, objectives: int | None = None
) -> Vectors:
    """Draw up to 25 vectors of 1 to 4 objectives."""
    m = draw(st.integers(1, 4)) if objectives is None else objectives
    return draw(st.lists(st.tuples(*[numbers] * m), min_size=smallest, max_size=25))


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))


def layers_by_peeling(rows: Sequence[Sequence[float]]) -> list[int]:
    """Compute layers: remove all vectors that no other one dominates, again and again; infinite ones come last."""
    left = {index for index, row in enumerate(rows) if all(map(math.isfinite, row))}
    layers, layer = [-1] * len(rows), 0
    while left:
        front = {i for i in left if not any(dominates(rows[j], rows[i]) for j in left)}
        for index in front:
            layers[index] = layer
        left, layer = left - front, layer + 1
    return [layer if each == -1 else each for each in layers]

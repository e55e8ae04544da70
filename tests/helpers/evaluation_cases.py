"""Small splits, made by hand or at random, and a scorer with fixed tables of scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Rows
from mtsearch.data.split import Split

Triple = tuple[int, int, float]
Floats = NDArray[np.floating[Any]]


def make_rows(triples: Sequence[Triple]) -> Rows:
    users, items, ratings = zip(*triples, strict=True) if triples else ((), (), ())
    return Rows(
        np.array(users, np.int32),
        np.array(items, np.int32),
        np.array(ratings, np.float32),
        np.zeros(len(triples), np.int64),
    )


def make_split(users: int, items: int, catalogue: Sequence[int], train: Rows, validation: Rows) -> Split:
    return Split(
        user_ids=np.array([f"user {code:04}" for code in range(users)], object),
        item_ids=np.array([f"item {code:04}" for code in range(items)], object),
        catalogue=np.array(catalogue, np.int32),
        train=train,
        validation=validation,
        test=make_rows([]),
        fingerprint="made by hand",
    )


@dataclass
class Tables:
    """A scorer with fixed answers: `score_table` [U, C] and `rating_table` [U, I]."""

    score_table: Floats
    rating_table: Floats

    def ratings(self, users: Codes, items: Codes) -> Floats:
        return self.rating_table[users, items]

    def scores(self, users: Codes) -> Floats:
        return self.score_table[users]


def one_user(scores: Sequence[float], evaluated: Sequence[int], train: Sequence[int] = ()) -> tuple[Split, Tables]:
    """Make a split of one user who rates all items 3, and a second user so that no part is empty."""
    items = len(scores)
    learnt = [(0, item, 3.0) for item in train] + [(1, 0, 3.0)]
    rows = make_rows([(0, item, 3.0) for item in evaluated])
    split = make_split(2, items, range(items), make_rows(learnt), rows)
    return split, Tables(np.array([scores, scores], np.float32), np.full((2, items), 3.0, np.float32))


@st.composite
def random_cases(draw: st.DrawFn, most_items: int = 14) -> tuple[Split, Tables]:
    """Draw cases with frequent ties, repeated pairs, unknown ids and items outside the catalogue."""
    users, items = draw(st.integers(1, 6)), draw(st.integers(1, most_items))
    levels = draw(st.sampled_from([1, 2, 4, 1000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    catalogue = np.flatnonzero(rng.random(items) < draw(st.sampled_from([0.5, 1.0])))
    catalogue = catalogue if len(catalogue) else np.array([items - 1])

    def rows(most: int) -> Rows:
        count = int(rng.integers(1, most + 1))
        triples = zip(
            rng.integers(users, size=count), rng.integers(items, size=count), rng.integers(1, 6, count), strict=True
        )
        return make_rows([(int(user), int(item), float(rating)) for user, item, rating in triples])

    shape = (users, len(catalogue))
    scores = rng.integers(levels, size=shape) * rng.choice([-1.0, 1.0], size=shape)  # zeros of both signs
    split = make_split(users, items, catalogue.tolist(), rows(3 * items), rows(20))
    return split, Tables(scores.astype(np.float32), rng.normal(3, 2, (users, items)).astype(np.float32))

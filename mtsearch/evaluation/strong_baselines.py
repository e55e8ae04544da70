"""Evaluate the best models for a single task that are public: a model of several tasks has to come close to them.

`ials` ranks, by who has taken what, and `bayesian_fm` predicts ratings. Both are trained with the settings below, which
are not tuned to a study's data. They were found decent on the validation part of MovieLens 100K, split with seed 42
(72,000 training rows, 8,000 evaluated rows):

                  rmse   top_100  top_100_unseen
    ials             -     0.404           0.602
    bayesian_fm  0.888         -               -

They need implicit and myfm, which are imported when they are trained: `pip install 'mtsearch[reference]'`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Rows
from mtsearch.data.split import Split
from mtsearch.errors import MachineError
from mtsearch.evaluation.baselines import TaskBaselines
from mtsearch.evaluation.evaluator import Evaluator
from mtsearch.evaluation.factors import Factors, spread
from mtsearch.evaluation.plan import Floats
from mtsearch.host import free_memory

Share = Callable[[float], None]
"""Called after each iteration of a training with its finished share, 0..1."""

Watcher = Callable[[str, float], None]
"""The same, with the name of the baseline and its task before it."""

STRONG_BASELINES = ("ials", "bayesian_fm")
"""Names of these baselines."""

SEED = 42

IALS: Mapping[str, Any] = {"factors": 16, "regularization": 30.0, "alpha": 8.0, "iterations": 15}
BAYESIAN_FM: Mapping[str, Any] = {"rank": 10, "iterations": 300}
_BURN_IN = 50
"""Gibbs samples that are dropped before the others are kept."""


def require_reference_packages() -> None:
    """Require the packages of the strong baselines.

    Raises:
        MachineError: one is not installed.
    """
    missing = [name for name in ("implicit", "myfm") if find_spec(name) is None]
    if missing:
        problem = f"the strong baselines need {' and '.join(missing)}, which is not installed"
        raise MachineError(problem, "pip install 'mtsearch[reference]'")


_BYTES_OF_ID = 55_000
"""Memory that `bayesian_fm` takes for each user and item, counted and not measured: 250 samples of an offset and 10
numbers in float64, with the copies that put them side by side."""


def _require_memory(split: Split) -> None:
    needed, free = _BYTES_OF_ID * (len(split.user_ids) + len(split.item_ids)), free_memory()
    if needed > free:
        raise MachineError(
            f"bayesian_fm of {len(split.user_ids):,} users and {len(split.item_ids):,} items takes about "
            f"{needed / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB are free",
            "leave out --strong, or give fewer users and items",
        )


def evaluate_strong_baselines(
    split: Split, rows: Rows, on_share: Watcher = lambda _name, _share: None
) -> dict[str, dict[str, float]]:
    """Return the metrics of `ials` and `bayesian_fm` on `rows`, learnt from `split.train`; the same each time.

    `ials` has the tasks of retrieval, `bayesian_fm` those of ratings; one that has none in this study is left out.

    Args:
        split: to learn from.
        rows: to evaluate on.
        on_share: called as the trainings go on.

    Raises:
        MachineError: a package is not installed, or the memory does not suffice; nothing was trained.
        MalformedData: there are no rows to evaluate, no items to rank or no training rows.
    """
    require_reference_packages()
    if any(task.kind == "rating" for task in split.tasks):
        _require_memory(split)
    evaluator = Evaluator(split, rows)
    made = {"ials": ials(split, on_share), "bayesian_fm": bayesian_fm(split, on_share)}
    return {name: evaluator.evaluate(baseline) for name, baseline in made.items() if baseline.by_task}


def ials(split: Split, on_share: Watcher = lambda _name, _share: None) -> TaskBaselines:
    """Make the baseline that ranks the items of each task of retrieval by implicit alternating least squares.

    Hu, Koren, Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets", as in the package implicit:
    16 factors, 15 iterations, regularisation 30, and weight 8 of a pair with a training row against 1 of any other.
    Ratings are not used.
    """
    views = {task.name: split.of_task(task) for task in split.tasks if task.kind == "retrieval"}
    return TaskBaselines({
        name: fit_ials(view, **IALS, on_share=partial(on_share, f"ials, {name}")) for name, view in views.items()
    })  # fmt: skip


def bayesian_fm(split: Split, on_share: Watcher = lambda _name, _share: None) -> TaskBaselines:
    """Make the baseline that predicts each task of ratings by a Bayesian factorization machine with SVD++ features.

    Rendle, Zhang, Koren 2019, "On the Difficulty of Evaluating Baselines", as in the package myfm: rank 10, 300 Gibbs
    samples of which the last 250 are averaged. A user's features are the user and the items of the user's training
    rows, an item's the item and its users.
    """
    views = {task.name: split.of_task(task) for task in split.tasks if task.kind == "rating"}
    return TaskBaselines({
        name: fit_bayesian_fm(view, **BAYESIAN_FM, on_share=partial(on_share, f"bayesian_fm, {name}"))
        for name, view in views.items()
    })  # fmt: skip


def fit_ials(
    split: Split,
    factors: int,
    regularization: float,
    alpha: float,
    iterations: int,
    *,
    on_share: Share = lambda _share: None,
) -> Factors:
    """Train implicit ALS on the pairs of the training rows, each once.

    Args:
        split: of one task.
        factors: D, length of the vectors.
        regularization: factor of the squared lengths of the vectors.
        alpha: weight of a pair with a training row; any other has 1.
        iterations: number of rounds, users and then items.
        on_share: called after each iteration.
    """
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    pairs = pair_matrix(split)
    # NOTE: implicit has threads of its own, and warns of those of BLAS; what a thread solves depends on no other.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors, regularization, alpha, dtype=np.float32, iterations=iterations, random_state=SEED
        )
        model.fit(pairs, show_progress=False, callback=lambda done, *_: on_share((done + 1) / iterations))
    users = np.flatnonzero(split.known_users)
    vectors = spread(model.user_factors[users], users, len(split.user_ids))
    no_users, no_items = (np.zeros(len(ids), np.float32) for ids in (split.user_ids, split.item_ids))
    return Factors(0.0, no_users, no_items, vectors, model.item_factors, split.catalogue)


def fit_bayesian_fm(
    split: Split,
    rank: int,
    iterations: int,
    *,
    neighbours: bool = True,
    on_share: Share = lambda _share: None,
) -> Factors:
    """Train a Bayesian factorization machine by Gibbs sampling on the ratings of the training rows.

    The mean over the kept samples of such a machine is a model of factors: of each sample, the user's features give an
    offset and a vector, and so do the item's; vectors of all samples stand beside each other.

    Args:
        split: of one task.
        rank: length of each sample's vectors.
        iterations: number of Gibbs samples; the first 50 are dropped.
        neighbours: also describe a user by the items, and an item by the users, of the training rows (SVD++); each of
            n has n^-0.5.
        on_share: called after each iteration.
    """
    import myfm
    from myfm import base

    def watch(done: int, *_: object) -> tuple[bool, None]:
        on_share((done + 1) / iterations)
        return False, None  # go on, without a message

    sides = [_make_side(split, of_items, neighbours) for of_items in (False, True)]
    machine = myfm.MyFMRegressor(rank=rank, random_seed=SEED)
    with _without_bar(base):
        machine.fit(
            None,
            split.train.ratings.astype(np.float64),
            X_rel=[myfm.RelationBlock(side.of_rows.tolist(), side.features) for side in sides],
            n_iter=iterations,
            n_kept_samples=iterations - _BURN_IN,
            group_shapes=[size for side in sides for size in side.groups],
            callback=watch,
        )
    samples = machine.predictor_.samples
    (user_offsets, users), (item_offsets, items) = _mean_parts(sides, samples)
    mean = float(np.mean([sample.w0 for sample in samples]))
    return Factors(mean, user_offsets, item_offsets, users, items, split.catalogue)


@contextmanager
def _without_bar(module: Any) -> Iterator[None]:
    """Let a module's `tqdm` draw no bar within the context: myfm has no option for it."""
    before = module.tqdm
    module.tqdm = partial(before, disable=True)
    try:
        yield
    finally:
        module.tqdm = before


def pair_matrix(split: Split) -> Any:
    """Return the pairs of the training rows as a sparse matrix `[U, I]` of float32, 1 for each."""
    from scipy import sparse

    users, items = split.train.users, split.train.items
    shape = len(split.user_ids), len(split.item_ids)
    pairs = sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape)
    pairs.data[:] = 1  # equal pairs were added up
    return pairs


@dataclass(frozen=True, eq=False)
class _Side:
    """The features of the users, or of the items, of the training rows; N rows, n of S ids known, F features.

    Attributes:
        features: `[n, F]`, sparse.
        groups: number of columns of each kind of feature; each kind has a prior of its own.
        known: `[S]` True for each id with a training row.
        of_rows: `[N]` row of `features` for each training row.
    """

    features: Any
    groups: list[int]
    known: NDArray[np.bool_]
    of_rows: NDArray[np.intp]


def _make_side(split: Split, of_items: bool, neighbours: bool) -> _Side:
    """Describe the known users or items by themselves and, with `neighbours`, by what they have training rows with."""
    from scipy import sparse

    known, codes = (split.known_items, split.train.items) if of_items else (split.known_users, split.train.users)
    of_rows = (np.cumsum(known) - 1)[codes]
    alone = sparse.identity(np.count_nonzero(known), format="csr")
    if not neighbours:
        return _Side(alone, [alone.shape[1]], known, of_rows)
    pairs = pair_matrix(split)[split.known_users][:, split.known_items].astype(np.float64)
    others = pairs.T if of_items else pairs
    scaled = sparse.diags(np.asarray(others.sum(axis=1)).ravel() ** -0.5) @ others
    return _Side(sparse.hstack([alone, scaled], format="csr"), [alone.shape[1], scaled.shape[1]], known, of_rows)


def _mean_parts(sides: list[_Side], samples: list[Any]) -> list[tuple[Floats, Floats]]:
    """Return for each side the offsets `[S]` and the vectors `[S, D]` that the mean of the samples has.

    With p the sum of the vectors of a side's features, a machine is w0 + the sum of all weights w + half of
    (|p_user + p_item|^2 - the sum of |v|^2 over all features). What of it lies within a side is that side's offset, and
    what is left is the product of p_user and p_item. A feature's value multiplies its w and v.

    Args:
        sides: the users and the items; their features follow each other in the samples.
        samples: each with `w` `[F]` and `V` `[F, rank]`; D is rank times their number.
    """
    parts, start = [], 0
    for side in sides:
        features, end = side.features, start + side.features.shape[1]
        offsets, vectors = np.zeros(features.shape[0]), []
        for sample in samples:
            weights, factors = sample.w[start:end], sample.V[start:end]
            sums = features @ factors
            within = (sums**2).sum(axis=1) - features.power(2) @ (factors**2).sum(axis=1)
            offsets += (features @ weights + within / 2) / len(samples)
            vectors.append((sums / np.sqrt(len(samples))).astype(np.float32))
        codes, size = np.flatnonzero(side.known), len(side.known)
        parts.append((spread(offsets, codes, size), spread(np.hstack(vectors), codes, size)))
        start = end
    return parts

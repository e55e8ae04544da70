"""Rules that stop a trial at a rung, and the epochs at which the rungs are.

A rung is an epoch at which a trial is compared with the other trials that have reached the same epoch.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mtsearch.pruning.layers import Floats, covering_order, distinct_rows, non_dominated_layers, scale_to_unit


@dataclass(frozen=True)
class Rungs:
    """The epochs of the rungs: grace, grace * reduction, grace * reduction ** 2, ...

    Attributes:
        grace: epoch of the first rung, at least 1.
        reduction: factor from each rung to the next, at least 2.

    Raises:
        ValueError: one of them is smaller.
    """

    grace: int = 2
    reduction: int = 2

    def __post_init__(self) -> None:
        if self.grace < 1 or self.reduction < 2:
            problem = f"grace = {self.grace}, reduction = {self.reduction}"
            raise ValueError(f"{problem}: give a grace of at least 1 and a reduction of at least 2")

    def __contains__(self, epoch: int) -> bool:
        # Divide by the grace, then by the reduction as often as possible: at a rung, 1 is left.
        steps, rest = divmod(epoch, self.grace)
        while steps > 1 and steps % self.reduction == 0:
            steps //= self.reduction
        return rest == 0 and steps == 1

    def up_to(self, epochs: int) -> list[int]:
        """Return the rungs that a trial of this number of epochs reaches."""
        return [epoch for epoch in range(1, epochs + 1) if epoch in self]


ENOUGH = 5
"""The number of trials, this one included, that must reach a rung before a rule stops any trial there."""


@dataclass(frozen=True)
class Rung:
    """The vectors of the other trials that have reached a rung, as they were at the rung.

    Attributes:
        vectors: losses of each trial, [n, m], whether it was stopped there or not.
        front: [n], True for a trial on the front of the complete trials.
    """

    vectors: Floats
    front: NDArray[np.bool_]


class Rule(Protocol):
    """The interface of a pruning rule: where its rungs are, and which trials it stops there."""

    @property
    def rungs(self) -> Rungs:
        """The epochs at which trials are compared."""

    def stops(self, own: Floats, rung: Rung) -> bool:
        """Tell whether a trial with the losses `own`, [m], stops at this rung."""


@dataclass(frozen=True)
class Halving:
    """The rule of multi-objective asynchronous successive halving: only the best trials at a rung go on.

    A trial goes on if it is among the best 1 / reduction of all trials that have reached the rung so far, by
    non-dominated layers. Of the first layer that does not fit as a whole, the trials that cover it best go on
    (`covering_order`, after the rung's extremes are scaled to 0 and 1). A crowding distance would not do: it is taken
    among all of a layer, so that two neighbours both stop or both go on, and the few that go on leave gaps. Equal
    vectors are stopped together or not at all. A trial on the rung's first layer is never stopped, nor is any trial
    before `ENOUGH` trials have reached the rung. With one objective this is asynchronous successive halving.

    Schmucker, Donini, Zafar, Salinas, Archambeau, "Multi-objective asynchronous successive halving", 2021; Li,
    Jamieson, Rostamizadeh and others, "A system for massively parallel hyperparameter tuning", MLSys 2020.

    Attributes:
        grace: epochs to the first rung.
        reduction: factor from each rung to the next; one of this many trials goes on.
    """

    grace: int = 2
    reduction: int = 2

    def __post_init__(self) -> None:
        Rungs(self.grace, self.reduction)

    @property
    def rungs(self) -> Rungs:
        """The epochs at which trials are compared."""
        return Rungs(self.grace, self.reduction)

    def stops(self, own: Floats, rung: Rung) -> bool:
        """Tell whether a trial with the losses `own`, [m], is not among the best at this rung."""
        vectors = np.vstack([rung.vectors, own])
        layers = non_dominated_layers(vectors)
        if len(vectors) < ENOUGH or layers[-1] == 0:
            return False
        # The number of trials of this trial's layer that may go on, after those of the better layers.
        room = max(len(vectors) // self.reduction, 1) - int((layers < layers[-1]).sum())
        if room <= 0 or not np.isfinite(own).all():
            return True
        return _count_before_last(scale_to_unit(vectors)[layers == layers[-1]]) >= room

    def __str__(self) -> str:
        return f"not among the best 1/{self.reduction}"


@dataclass(frozen=True)
class Dominated:
    """The rule that stops a trial if a trial of the front was better by a margin, in all objectives, at the same epoch.

    The trial's vector is improved in each objective by `margin` times the range on the rung. The trial stops if a trial
    of the present front dominates even this vector with its own vector from the same epoch. Final vectors would not do:
    they would ask a trial to reach at its first rung what others reach at their end, and how far a curve has to go is a
    guess. The median rule compares in the same way (Golovin and others, "Google Vizier: a service for black-box
    optimization", KDD 2017). Trials are compared at rungs rather than at every epoch, since each further comparison is
    a further chance to stop a good trial for its noise.

    Attributes:
        grace: epochs to the first rung.
        reduction: factor from each rung to the next.
        margin: share of an objective's range on the rung, at least 0.

    Raises:
        ValueError: the margin is below 0 or not finite.
    """

    grace: int = 2
    reduction: int = 2
    margin: float = 0.05

    def __post_init__(self) -> None:
        Rungs(self.grace, self.reduction)
        if not 0 <= self.margin < np.inf:
            raise ValueError(f"margin = {self.margin}: give a number of at least 0")

    @property
    def rungs(self) -> Rungs:
        """The epochs at which trials are compared."""
        return Rungs(self.grace, self.reduction)

    def stops(self, own: Floats, rung: Rung) -> bool:
        """Tell whether a trial of the front was better than the losses `own`, [m], by the margin at this rung."""
        vectors = np.vstack([rung.vectors, own])
        if len(vectors) < ENOUGH:
            return False
        front = rung.vectors[rung.front]
        # A trial with NaN or an infinity stops as soon as one of the front was finite at this rung.
        if not np.isfinite(own).all():
            return bool(np.isfinite(front).all(axis=1).any())
        scaled = scale_to_unit(vectors)
        # The scaled range is 1 in each objective, or 0 if all values are the same.
        improved = scaled[-1] - self.margin * np.nanmax(scaled, axis=0)
        ahead = (scaled[:-1][rung.front] <= improved).all(axis=1)
        # With a margin of 0, or without a range, being ahead by the margin does not mean that the vector dominates.
        return bool((ahead & (front <= own).all(axis=1) & (front < own).any(axis=1)).any())

    def __str__(self) -> str:
        return f"dominated by the front with {self.margin:g} of the ranges to spare"


def _count_before_last(layer: Floats) -> int:
    """Return how many rows of a layer, [n, m], come before its last row in `covering_order`.

    Equal rows count together: they have one place in the order, so that none comes before its copies.
    """
    rows, places = distinct_rows(layer)
    order = covering_order(rows)
    # The number of copies of each row in this order, summed up to the index of the last row.
    copies = np.bincount(places)[order]
    place = int(np.flatnonzero(order == places[-1])[0])
    return int(copies[:place].sum())

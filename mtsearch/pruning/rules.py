"""When a trial that has reached a rung is stopped there."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mtsearch.pruning.layers import Floats, covering_order, distinct, non_dominated_layers, scaled_to_unit
from mtsearch.pruning.rungs import Rungs

ENOUGH = 5
"""Trials, the one that is judged included, without which a rung stops nobody."""


@dataclass(frozen=True)
class Rung:
    """What the other trials had when they reached a rung.

    Attributes:
        vectors: losses of each, [n, m], whether it went on or not.
        front: [n], whether it is on the front of the trials that have ended.
    """

    vectors: Floats
    front: NDArray[np.bool_]


class Rule(Protocol):
    """Says whom to stop."""

    @property
    def rungs(self) -> Rungs:
        """Epochs at which it is asked."""

    def stops(self, own: Floats, rung: Rung) -> bool:
        """Whether a trial with these losses, [m], goes no further than this rung."""


@dataclass(frozen=True)
class Halving:
    """Only the best of those that reached a rung go on: multi-objective asynchronous successive halving.

    A trial goes on where it is among the best 1 / reduction of all that have reached the rung until now, by
    non-dominated layers; in the last layer that does not fit, those go on that cover it best (`covering_order`, after
    the rung's extremes are scaled to 0 and 1). A crowding distance would not do: it is taken among all of a layer, so
    that of two neighbours both go or both stay, and the few that stay leave gaps. Vectors that are equal stay together.
    A trial on the rung's first layer is never stopped, and none is before `ENOUGH` have come. With one objective it is
    asynchronous successive halving.

    Schmucker, Donini, Zafar, Salinas, Archambeau, "Multi-objective asynchronous successive halving", 2021; Li,
    Jamieson, Rostamizadeh and others, "A system for massively parallel hyperparameter tuning", MLSys 2020.

    Attributes:
        grace: epochs to the first rung.
        reduction: from each rung to the next, and of how many one goes on.
    """

    grace: int = 2
    reduction: int = 2

    def __post_init__(self) -> None:
        Rungs(self.grace, self.reduction)

    @property
    def rungs(self) -> Rungs:
        """See `Rule`."""
        return Rungs(self.grace, self.reduction)

    def stops(self, own: Floats, rung: Rung) -> bool:
        """See `Rule`."""
        vectors = np.vstack([rung.vectors, own])
        layers = non_dominated_layers(vectors)
        if len(vectors) < ENOUGH or layers[-1] == 0:
            return False
        room = max(len(vectors) // self.reduction, 1) - int((layers < layers[-1]).sum())
        if room <= 0 or not np.isfinite(own).all():
            return True
        return _before_last(scaled_to_unit(vectors)[layers == layers[-1]]) >= room

    def __str__(self) -> str:
        return f"not among the best 1/{self.reduction}"


@dataclass(frozen=True)
class Dominated:
    """A trial is stopped where the front was already better at the same epoch, in everything and by a margin.

    Its vector, bettered in each objective by `margin` of the range on the rung, must still be dominated by what a trial
    of the present front had at this very epoch. Final vectors are no measure: a trial would be expected to be at its
    first rung what others are at their end, and how far a curve has to go is a guess. The median rule compares in the
    same way (Golovin and others, "Google Vizier: a service for black-box optimization", KDD 2017). It is asked at rungs
    rather than at every epoch, since each further look is a further chance to stop a good trial for its noise.

    Attributes:
        grace: epochs to the first rung.
        reduction: from each rung to the next.
        margin: share of an objective's range on the rung, from 0 on.

    Raises:
        ValueError: of a margin below 0 or not finite.
    """

    grace: int = 2
    reduction: int = 2
    margin: float = 0.05

    def __post_init__(self) -> None:
        Rungs(self.grace, self.reduction)
        if not 0 <= self.margin < np.inf:
            raise ValueError(f"margin = {self.margin}: from 0 on")

    @property
    def rungs(self) -> Rungs:
        """See `Rule`."""
        return Rungs(self.grace, self.reduction)

    def stops(self, own: Floats, rung: Rung) -> bool:
        """See `Rule`."""
        vectors = np.vstack([rung.vectors, own])
        if len(vectors) < ENOUGH:
            return False
        front = rung.vectors[rung.front]
        if not np.isfinite(own).all():
            return bool(np.isfinite(front).all(axis=1).any())
        scaled = scaled_to_unit(vectors)
        bettered = scaled[-1] - self.margin * np.nanmax(scaled, axis=0)  # 1, and 0 where all are the same
        ahead = (scaled[:-1][rung.front] <= bettered).all(axis=1)
        return bool((ahead & (front <= own).all(axis=1) & (front < own).any(axis=1)).any())

    def __str__(self) -> str:
        return f"dominated by the front with {self.margin:g} of the ranges to spare"


def _before_last(layer: Floats) -> int:
    """How many of a layer come before its last row in the order that covers it, copies of one vector together."""
    rows, places = distinct(layer)
    order = covering_order(rows)
    copies = np.bincount(places)[order]
    place = int(np.flatnonzero(order == places[-1])[0])
    return int(copies[:place].sum())

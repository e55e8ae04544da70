"""Split: who learns from which rows, and who is judged on which."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Ids, Interactions, Rows, digest, id_bytes
from mtsearch.data.partition import partition
from mtsearch.errors import MalformedData

if TYPE_CHECKING:
    from mtsearch.definition import SplitSection


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint rows to train, validate and test on, over one encoding of the ids; each part keeps the table's order.

    Attributes:
        user_ids: `[U]` as in `Interactions`.
        item_ids: `[I]`.
        catalogue: `[C]` sorted codes of the items that are ranked: the items file, else the items of the training side
            (all rows but test).
        train, validation, test: rows; the last two are one object where the definition says `validation = "test"`.
        fingerprint: SHA-256 (hex) of the rows of each part and the catalogue.
        titles: `[I]` as in `Interactions`.
    """

    user_ids: Ids
    item_ids: Ids
    catalogue: Codes
    train: Rows
    validation: Rows
    test: Rows
    fingerprint: str
    titles: Ids | None = None

    @cached_property
    def known_users(self) -> NDArray[np.bool_]:
        """`[U]` True where a training row has the user."""
        return np.bincount(self.train.users, minlength=len(self.user_ids)) > 0

    @cached_property
    def known_items(self) -> NDArray[np.bool_]:
        """`[I]` True where a training row has the item."""
        return np.bincount(self.train.items, minlength=len(self.item_ids)) > 0

    def final(self) -> Self:
        """The split of a last look: trained on train and validation, validated on test.

        It equals, fingerprint included, what `validation = "test"` makes of the same table and seed; such a split is
        its own last look.
        """
        if self.validation is self.test:
            return self
        train = _joined(self.train, self.validation)
        fingerprint = _fingerprint(self.user_ids, self.item_ids, self.catalogue, (train, self.test, self.test))
        return replace(self, train=train, validation=self.test, fingerprint=fingerprint)


def make_split(interactions: Interactions, section: "SplitSection") -> Split:
    """Divide the rows, the same way for the same table and section on every machine.

    Args:
        interactions: N rows.
        section: test gets `round(test * N)` rows, validation `round(validation * rest)`, train what is left.

    Raises:
        MalformedData: a part would get no row, or the section asks for times or a column that are not there.
    """
    part = partition(interactions, section)
    train, validation, test = (interactions.rows.take(np.flatnonzero(part == each)) for each in range(3))
    if section.validation == "test":
        validation = test
    parts = train, validation, test
    if not all(map(len, parts)):
        raise MalformedData(
            f"{len(interactions.rows)} ratings make {len(train)} to train, {len(validation)} to validate "
            f"and {len(test)} to test on",
            "give more ratings or divide them otherwise in [split]",
        )
    learnt = train.items if validation is test else np.append(train.items, validation.items)
    return _split(interactions, parts, learnt)


def undivided(interactions: Interactions) -> Split:
    """All rows to train on, none to validate or test on: for a model that is not judged any more."""
    none = interactions.rows.take(np.arange(0))
    parts = interactions.rows, none, none
    return _split(interactions, parts, interactions.rows.items)


def _split(interactions: Interactions, parts: tuple[Rows, Rows, Rows], learnt: Codes) -> Split:
    """The parts as a split; its catalogue are the items that are `learnt`, unless there is an items file."""
    user_ids, item_ids = interactions.user_ids, interactions.item_ids
    catalogue = np.unique(learnt) if interactions.catalogue is None else interactions.catalogue
    fingerprint = _fingerprint(user_ids, item_ids, catalogue, parts)
    return Split(user_ids, item_ids, catalogue, *parts, fingerprint, interactions.titles)


def _joined(first: Rows, second: Rows) -> Rows:
    return Rows(
        np.append(first.users, second.users),
        np.append(first.items, second.items),
        np.append(first.ratings, second.ratings),
        np.append(first.timestamps, second.timestamps),
    ).sorted()


def _fingerprint(user_ids: Ids, item_ids: Ids, catalogue: Codes, parts: tuple[Rows, Rows, Rows]) -> str:
    table = digest(user_ids, item_ids, parts)
    return hashlib.sha256(f"mtsearch split 1\n{table}\n".encode() + id_bytes(item_ids[catalogue])).hexdigest()

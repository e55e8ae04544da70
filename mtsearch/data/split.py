"""Split: who learns from which rows, and who is judged on which."""

import hashlib
from collections.abc import Sequence
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
        set_aside: validation rows of the users that `validation_users` did not draw, judged by no trial; None where
            `validation` has them all.
    """

    user_ids: Ids
    item_ids: Ids
    catalogue: Codes
    train: Rows
    validation: Rows
    test: Rows
    fingerprint: str
    titles: Ids | None = None
    set_aside: Rows | None = None

    @cached_property
    def drawn_from(self) -> int | None:
        """How many users have validation rows, where those of `validation` were drawn from them; None: it has all."""
        if self.set_aside is None:
            return None
        return self.validation_users + len(np.unique(self.set_aside.users))

    @property
    def validation_users(self) -> int:
        """How many users `validation` has."""
        return len(np.unique(self.validation.users))

    @cached_property
    def known_users(self) -> NDArray[np.bool_]:
        """`[U]` True where a training row has the user."""
        return np.bincount(self.train.users, minlength=len(self.user_ids)) > 0

    @cached_property
    def known_items(self) -> NDArray[np.bool_]:
        """`[I]` True where a training row has the item."""
        return np.bincount(self.train.items, minlength=len(self.item_ids)) > 0

    @cached_property
    def candidates(self) -> Codes:
        """Sorted codes of what a softmax over everything runs over: the catalogue, and what else is trained on."""
        return np.union1d(self.catalogue, self.train.items).astype(np.int32)

    def final(self) -> Self:
        """The split of a last look: trained on train and all validation rows, validated on test.

        It equals, fingerprint included, what `validation = "test"` makes of the same table and seed; such a split is
        its own last look.
        """
        if self.validation is self.test:
            return self
        train = _joined(self.train, self.validation, *([] if self.set_aside is None else [self.set_aside]))
        fingerprint = _fingerprint(self.user_ids, self.item_ids, self.catalogue, (train, self.test, self.test))
        return replace(self, train=train, validation=self.test, fingerprint=fingerprint, set_aside=None)


def make_split(interactions: Interactions, section: "SplitSection") -> Split:
    """Divide the rows, the same way for the same table and section on every machine.

    Args:
        interactions: N rows.
        section: test gets `round(test * N)` rows, validation `round(validation * rest)`, train what is left; of the
            validation rows those of users that `validation_users` does not draw are set aside.

    Raises:
        MalformedData: a part would get no row, or the section asks for times or a column that are not there.
    """
    part = partition(interactions, section)
    train, validation, test = (interactions.rows.take(np.flatnonzero(part == each)) for each in range(3))
    if section.validation == "test":
        validation = test
    parts = [train, validation, test]
    if not all(map(len, parts)):
        raise MalformedData(
            f"{len(interactions.rows)} ratings make {len(train)} to train, {len(validation)} to validate "
            f"and {len(test)} to test on",
            "give more ratings or divide them otherwise in [split]",
        )
    learnt = train.items if validation is test else np.append(train.items, validation.items)
    drawn = _draw(validation.users, section)
    if drawn is not None:
        parts[1:] = validation.take(np.flatnonzero(drawn)), test, validation.take(np.flatnonzero(~drawn))
    return _split(interactions, parts, learnt)


def undivided(interactions: Interactions) -> Split:
    """All rows to train on, none to validate or test on: for a model that is not judged any more."""
    none = interactions.rows.take(np.arange(0))
    parts = [interactions.rows, none, none]
    return _split(interactions, parts, interactions.rows.items)


def _draw(users: Codes, section: "SplitSection") -> NDArray[np.bool_] | None:
    """`[N]` whether the row is of a user that is drawn to validate on; None where all users are.

    The first of one shuffle of the users are taken, so that a smaller sample is part of a larger one.
    """
    having = np.unique(users)
    if section.validation_users is None or section.validation_users >= len(having):
        return None
    # NOTE: a stream of its own, lest the users depend on the rows that the seed drew; frozen, see `partition`.
    shuffled = np.random.RandomState([section.seed, 1]).permutation(having)
    return np.isin(users, shuffled[: section.validation_users])


def _split(interactions: Interactions, parts: Sequence[Rows], learnt: Codes) -> Split:
    """Train, validation, test and what is set aside, as a split.

    Its catalogue are the items that are `learnt`, unless there is an items file.
    """
    user_ids, item_ids = interactions.user_ids, interactions.item_ids
    catalogue = np.unique(learnt) if interactions.catalogue is None else interactions.catalogue
    fingerprint = _fingerprint(user_ids, item_ids, catalogue, parts)
    train, validation, test, *set_aside = parts
    titles = interactions.titles
    return Split(user_ids, item_ids, catalogue, train, validation, test, fingerprint, titles, *set_aside)


def _joined(*parts: Rows) -> Rows:
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Rows(*map(np.concatenate, columns)).sorted()


def _fingerprint(user_ids: Ids, item_ids: Ids, catalogue: Codes, parts: Sequence[Rows]) -> str:
    table = digest(user_ids, item_ids, parts)
    return hashlib.sha256(f"mtsearch split 1\n{table}\n".encode() + id_bytes(item_ids[catalogue])).hexdigest()

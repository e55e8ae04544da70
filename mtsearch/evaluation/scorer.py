"""The seam between a model and its metrics."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes

Floats = NDArray[np.floating]


class Scorer(Protocol):
    """Predicts ratings and orders the catalogue.

    Codes are indices into `Split.user_ids` and `Split.item_ids`. What a user or an item without training rows gets is
    the scorer's business, as are the batches that it cuts a long call into.
    """

    def ratings(self, users: Codes, items: Codes) -> Floats:
        """The predicted rating of each pair.

        Args:
            users: `[B]` codes.
            items: `[B]` codes, which may lie outside the catalogue.

        Returns:
            `[B]` float32, in stars, unclipped.
        """
        ...

    def scores(self, users: Codes) -> Floats:
        """How much each user would pick each item of the catalogue.

        Args:
            users: `[u]` codes, each once, in any order.

        Returns:
            `[u, C]` float32 in any unit, higher is better; column j scores `split.catalogue[j]`. Only the order within
            a row counts. float64 is ranked as it is, never rounded.
        """
        ...

"""The joint model in NumPy with float64, computed row by row from its definition."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import Codes, Rows
from mtsearch.data.split import Split
from mtsearch.models.joint_model import JointModel
from mtsearch.study_file.config import TrialConfig

Floats = NDArray[np.floating[Any]]


class NumpyModel:
    """The weights of a joint model by name, and its outputs computed from them.

    Attributes:
        weights: `[...]` in the order of the model's trainable variables; changing one in place changes the model.
    """

    def __init__(self, model: JointModel, split: Split, config: TrialConfig) -> None:
        self.split, self.config = split, config
        self.weights = [variable.numpy().astype(np.float64) for variable in model.trainable_variables]
        named = {
            variable.ref(): weight for variable, weight in zip(model.trainable_variables, self.weights, strict=True)
        }

        def weight_of(variable: Any, *shape: int) -> Floats:
            return np.zeros(shape) if variable is None else named[variable.ref()]

        head = [named[variable.ref()] for variable in model.heads["rating"].trainable_variables]
        self.product_kernel = head.pop(2) if config.elementwise_product else None
        self.kernels, self.biases = head[0::2], head[1::2]
        users, items = len(split.user_ids), len(split.item_ids)
        self.users, self.items = weight_of(model.user_table), weight_of(model.item_table)
        user_bias, item_bias = model.biases.get("rating", (None, None))
        self.user_bias, self.item_bias = weight_of(user_bias, users, 1), weight_of(item_bias, items, 1)
        self.score_bias = weight_of(model.score_biases.get("retrieval"), items, 1)
        self.log_variance = weight_of(model.log_variance if config.balance == "uncertainty" else None, 2)

    def with_unknown(self) -> "NumpyModel":
        """Return the model with the mean of the trained users or items for the unknown ones."""
        known = self.split.known_items.copy()
        if self.config.retrieval_loss in ("full", "squared"):
            known[self.split.catalogue] = True
        self.users[~self.split.known_users] = self.users[self.split.known_users].mean(axis=0)
        self.items[~known] = self.items[known].mean(axis=0)
        self.score_bias[~known] = self.score_bias[known].mean(axis=0)
        return self

    def rating(self, user: int, item: int) -> float:
        values = np.concatenate([self.users[user], self.items[item]])
        for place, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            values = values @ kernel + bias
            if place == 0 and self.product_kernel is not None:
                product = self.users[user] * self.items[item] * 4
                values = values + product @ self.product_kernel
            if place < len(self.kernels) - 1:
                values = np.maximum(values, 0)
        rating = float(values[0])
        if self.config.dot_product:
            rating += float(self.users[user] @ self.items[item])
        if self.config.rating_biases:
            rating += (
                self.split.train.ratings.mean(dtype=np.float64) + self.user_bias[user, 0] + self.item_bias[item, 0]
            )
        return rating

    def score(self, user: int, item: int) -> float:
        queries, candidates = self.users[user], self.items[item]
        if self.config.normalize:
            queries, candidates = queries / np.linalg.norm(queries), candidates / np.linalg.norm(candidates)
        return float(queries @ candidates + self.score_bias[item, 0])

    def rating_loss(self, rows: Rows) -> float:
        return float(np.mean((self.ratings(rows.users, rows.items) - rows.ratings.astype(np.float64)) ** 2))

    def retrieval_loss(self, rows: Rows) -> float:
        """Compute for each row the cross-entropy of its own item among its candidates, or all squared errors."""
        config, train = self.config, self.split.train
        if config.retrieval_loss == "squared":
            errors = [1 - self.score(*pair) / config.temperature for pair in zip(rows.users, rows.items, strict=True)]
            products = [(self.score(*pair) / config.temperature) ** 2 for pair in self._all_pairs()]
            return float(
                np.sum(np.square(errors)) + len(rows) / len(train) * config.unobserved_weight * np.sum(products)
            )
        total = 0.0
        for place, (user, item) in enumerate(zip(rows.users, rows.items, strict=True)):
            negatives = [
                other
                for row, other in enumerate(rows.items)
                if row != place and not (config.remove_accidental_hits and other == item)
            ]
            if config.retrieval_loss == "full":
                negatives = sorted((set(self.split.catalogue) | set(train.items)) - {item})
            logits = np.array([self.score(user, other) for other in [item, *negatives]]) / config.temperature
            if config.retrieval_loss == "corrected":
                logits -= np.log([max(np.mean(train.items == other), 1e-6) for other in [item, *negatives]])
            total += float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[0])
        return total

    def penalty(self, rows: Rows) -> float:
        squares = [
            self.users[user] @ self.users[user]
            + self.items[item] @ self.items[item]
            + self.user_bias[user, 0] ** 2
            + self.item_bias[item, 0] ** 2
            for user, item in zip(rows.users, rows.items, strict=True)
        ]
        of_rows = float(np.mean(squares))
        if self.config.retrieval_loss == "squared":
            of_pairs = sum(np.sum(self.users[u] ** 2) + np.sum(self.items[i] ** 2) for u, i in self._all_pairs())
            of_rows += self.config.unobserved_weight * of_pairs / len(self.split.train)
        return self.config.l2 * of_rows

    def _all_pairs(self) -> list[tuple[int, int]]:
        """Return every user with every item that is ranked or trained on."""
        items = sorted({*self.split.catalogue, *self.split.train.items})
        return [(user, item) for user in range(len(self.split.user_ids)) for item in items]

    def loss(self, rows: Rows) -> float:
        rating = self.config.rating_weight * self.rating_loss(rows)
        retrieval = self.config.retrieval_weight * self.retrieval_loss(rows)
        if self.config.balance == "uncertainty":
            of_rating, of_retrieval = self.log_variance
            rating = np.exp(-of_rating) / 2 * rating + of_rating / 2
            retrieval = np.exp(-of_retrieval) * retrieval + of_retrieval / 2
        return float(rating + retrieval + self.penalty(rows))

    def ratings(self, users: Codes, items: Codes) -> Any:
        return np.array([self.rating(user, item) for user, item in zip(users, items, strict=True)])

    def scores(self, users: Codes) -> Any:
        return np.array([[self.score(user, item) for item in self.split.catalogue] for user in users])

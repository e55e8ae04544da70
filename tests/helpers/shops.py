"""A small shop with four tasks, a model of it in a model folder, and what that model has to answer, in NumPy."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtsearch.data.interactions import RATINGS, Rows, Task
from mtsearch.data.split import Split
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import THREADS, go_on, make_split

TASKS = (
    Task("view", "retrieval", None),
    Task("purchase", "retrieval", 0),
    Task("stars", "rating", RATINGS),
    Task("returned", "label", 1),
)
Floats = NDArray[np.floating[Any]]


def shop(seed: int = 0, weights: bool = False, **sizes: int) -> Split:
    """Make a split whose rows all are views; a third are purchases, of which some have stars or were returned."""
    split, rng = make_split(seed=seed, **sizes), np.random.default_rng(seed)

    def serve(rows: Rows) -> Rows:
        bought = rng.random(len(rows)) < 0.3
        rated, asked = bought & (rng.random(len(rows)) < 0.5), bought & (rng.random(len(rows)) < 0.7)
        targets = np.where(bought, 1, np.nan), np.where(asked, rows.ratings < 3, np.nan)
        return replace(
            rows,
            ratings=np.where(rated, rows.ratings, np.nan).astype(np.float32),
            targets=tuple(target.astype(np.float32) for target in targets),
            weights=rng.uniform(0, 3, len(rows)).astype(np.float32) if weights else None,
        )

    validation = serve(split.validation)
    return replace(split, train=serve(split.train), validation=validation, test=validation, tasks=TASKS)


class NumpyShop:
    """The answers of a trained model of a shop in float64, from its weights; the last user and item are unknown ones.

    Args:
        model: a `JointModel`, trained on the split.
        split: a shop, or some of its tasks.
        config: that was trained.
    """

    def __init__(self, model: Any, split: Split, config: TrialConfig) -> None:
        self.split, self._config = split, config
        self._named: dict[str, list[Floats]] = {}
        for variable in model.trainable_variables:
            self._named.setdefault(variable.name.split(":")[0], []).append(variable.numpy().astype(np.float64))
        self._heads = {
            name: [weight.numpy().astype(np.float64) for weight in head.trainable_variables]
            for name, head in model.heads.items()
        }
        self._biases = {name: [bias.numpy().astype(np.float64) for bias in both] for name, both in model.biases.items()}
        self._score_biases = {name: bias.numpy().astype(np.float64) for name, bias in model.score_biases.items()}
        negatives = np.isin(np.arange(len(split.item_ids)), split.candidates) & (
            config.retrieval_loss in ("full", "squared")
        )
        self._tables = {
            "user": with_mean(self._named["user_table"][0], split.known_users),
            "item": with_mean(self._named["item_table"][0], split.known_items | negatives),
        }
        self._negatives = negatives

    def scores(self, name: str) -> Floats:
        """Return the scores `[U + 1, C]` of a task of retrieval."""
        users, items = self._view(name, "user"), self._view(name, "item")
        if self._config.normalize:
            users, items = (table / np.linalg.norm(table, axis=1, keepdims=True) for table in (users, items))
        scores: Floats = users @ items[:-1].T
        if self._config.item_bias:
            trained = self._negatives.copy()
            trained[self.rows(name).items] = True
            scores = scores + with_mean(self._score_biases[name], trained)[:-1, 0]
        return scores[:, self.split.catalogue]

    def seen(self, name: str) -> NDArray[np.bool_]:
        """Return `[U + 1, C]` True for what a user had in the training rows of a task."""
        rows = self.rows(name)
        seen = np.zeros((len(self.split.user_ids) + 1, len(self.split.item_ids)), bool)
        seen[rows.users, rows.items] = True
        return seen[:, self.split.catalogue]

    def predictions(self, name: str) -> Floats:
        """Return what a task of ratings or labels predicts, `[U + 1, I + 1]`, in the units of the data."""
        users, items = self._view(name, "user"), self._view(name, "item")
        pairs = np.concatenate(
            [np.repeat(users[:, None], len(items), axis=1), np.repeat(items[None], len(users), axis=0)], axis=2
        )
        *hidden, kernel, bias = self._heads[name]
        for inner, offset in zip(hidden[0::2], hidden[1::2], strict=True):
            pairs = np.maximum(pairs @ inner + offset, 0)
        raw: Floats = (pairs @ kernel + bias)[..., 0]
        if self._config.dot_product:
            raw = raw + users @ items.T
        if self._config.rating_biases:
            by_user, by_item = (np.append(biases[:, 0], 0) for biases in self._biases[name])
            raw = raw + by_user[:, None] + by_item
        truth = self.rows(name).ratings.astype(np.float64)
        if name == "returned":
            share = truth.mean()
            chances: Floats = 1 / (1 + np.exp(-(raw + np.log(share / (1 - share)))))
            return chances
        limited: Floats = np.clip(truth.mean() + truth.std() * raw, truth.min(), truth.max())
        return limited

    def ranking(self, name: str, user: int, exclude_seen: bool = True) -> list[str]:
        """Return the ids of the items for a user, best first."""
        order = np.argsort(-self.scores(name)[user], kind="stable")
        left = order[~self.seen(name)[user, order]] if exclude_seen else order
        return list(self.split.item_ids[self.split.catalogue[left]])

    def rows(self, name: str) -> Rows:
        """Return the training rows of a task."""
        (task,) = (task for task in self.split.tasks if task.name == name)
        return self.split.train.serving(task)

    def _view(self, name: str, side: str) -> Floats:
        """Return the embeddings of all users or items as a task sees them."""
        table = self._tables[side]
        place = 2 * [task.name for task in self.split.tasks].index(name) + (side == "item")
        if self._config.sharing == "projections":
            return table @ self._named["projection"][place]
        if self._config.sharing == "experts":
            exponentials = np.exp(table @ self._named["gate"][place])
            shares = exponentials / exponentials.sum(axis=1, keepdims=True)
            experts = self._named["experts"][int(side == "item")]
            mixed: Floats = np.einsum("nk,nkd->nd", shares, np.stack([table @ expert for expert in experts], axis=1))
            return mixed
        return table


def with_mean(table: Floats, trained: NDArray[np.bool_]) -> Floats:
    """Return a table whose untrained rows are the mean of the others, with that mean once more below."""
    mean = table[trained].mean(axis=0, keepdims=True)
    return np.concatenate([np.where(trained[:, None], table, mean), mean])


@dataclass(frozen=True)
class ServedShop:
    """A model folder of a shop, and what its model has to answer."""

    folder: Path
    split: Split
    answers: NumpyShop

    @cached_property
    def signatures(self) -> Mapping[str, Any]:
        """The functions of the SavedModel, which need it loaded."""
        import tensorflow as tf

        self.__dict__["loaded"] = loaded = tf.saved_model.load(str(self.folder / "1"))  # owns the variables
        signatures: Mapping[str, Any] = loaded.signatures
        return signatures


def write_shop(
    folder: Path, *, first: str | None = "purchase", tasks: tuple[Task, ...] = TASKS, **changes: Any
) -> ServedShop:
    """Train a small model of a shop, or of some of its tasks, and write it with its `model.json`."""
    from mtsearch.models import Device, JointTrainer

    split = replace(shop(unknown=3), tasks=tasks)
    settings: Mapping[str, Any] = {"losses": "normalized", "embedding_size": 4, "hidden_layers": "8", "batch_size": 300,
                                   "epochs": 10, "learning_rate": 0.03, "optimizer": "adam"}  # fmt: skip
    config = TrialConfig.model_validate({**settings, **changes})
    trainer = JointTrainer(split, Device.default(THREADS))
    trainer.train(config, go_on)
    trainer.save(folder / "1", first)
    content = {"format": 2, "mtsearch": "0.1.0", "users": 57, "items": 77, "catalogue": len(split.catalogue),
               "rating_range": None, "tasks": {task.name: task.kind for task in tasks}, "first": first,
               "created": "2026-01-02T03:04:05+00:00"}  # fmt: skip
    (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "model_card.md").write_text("# A shop\n", encoding="utf-8")
    return ServedShop(folder, split, NumpyShop(trainer.last_model().model, split, config))

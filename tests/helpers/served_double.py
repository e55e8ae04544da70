"""A small model folder as `mtsearch retrain` writes it, made of a plain `tf.Module`, and its answers in NumPy."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOW, HIGH = 1.0, 5.0
ODD_TITLE = "Amélie – <b>“Poulain”</b>, 東京 (2001)"


@dataclass(frozen=True)
class Tables:
    """A random model: embeddings `[U, D]` and `[C, D]`, and seen items `[U + 1, C]`; the last user is the unknown one.

    Ids are "1".."U" and "i0".."iC-1".
    """

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    seen: NDArray[np.bool_]

    @property
    def user_ids(self) -> list[str]:
        return [str(code + 1) for code in range(len(self.users))]

    @property
    def item_ids(self) -> list[str]:
        return [f"i{place}" for place in range(len(self.items))]

    @property
    def titles(self) -> list[str]:
        return [f"Film {place}, The (1950)" for place in range(len(self.items) - 1)] + [ODD_TITLE]

    def ranking(self, user: str, exclude_seen: bool = True) -> list[str]:
        """Return the item ids that a user is recommended, best first."""
        code, row = _row(self.users, self.user_ids, user)
        order = np.argsort(-(self.items.astype(float) @ row), kind="stable")
        return [self.item_ids[place] for place in order if not (exclude_seen and self.seen[code, place])]

    def rating(self, user: str, item: str) -> float:
        """Return the predicted rating of a pair."""
        (_, user_row), (_, item_row) = _row(self.users, self.user_ids, user), _row(self.items, self.item_ids, item)
        return float(np.clip(3 + user_row @ item_row, LOW, HIGH))


def _row(table: NDArray[np.float32], ids: list[str], id_: str) -> tuple[int, NDArray[np.float64]]:
    known = id_ in ids
    return (ids.index(id_), table[ids.index(id_)].astype(float)) if known else (len(ids), table.astype(float).mean(0))


def make_tables(users: int, items: int, size: int) -> Tables:
    """Make a random model: user 1 has seen some items, user 2 all, user 3 all but two."""
    generator = np.random.default_rng(7)
    seen = np.zeros((users + 1, items), bool)
    seen[0, [0, 3, 5]] = seen[1, :] = seen[2, : items - 2] = True
    scale = size**-0.5
    of_users, of_items = (
        generator.normal(size=(rows, size), scale=scale).astype(np.float32) for rows in (users, items)
    )
    return Tables(of_users, of_items, seen)


TABLES = make_tables(users=5, items=12, size=3)


def write_model(folder: Path, users: int = 5, items: int = 12, size: int = 3) -> Path:
    """Write a complete model folder."""
    write_saved_model(folder / "1", make_tables(users, items, size))
    content = {
        "format": 1,
        "mtsearch": "0.1.0",
        "users": users,
        "items": items,
        "catalogue": items,
        "rating_range": [LOW, HIGH],
        "created": "2026-01-02T03:04:05+00:00",
        "data": "0" * 64,
        "threads": 2,
    }
    (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "model_card.md").write_text("# A model for tests\n\nRMSE é 0.9\n", encoding="utf-8")
    return folder


def write_saved_model(folder: Path, tables: Tables = TABLES) -> None:
    """Write the SavedModel only."""
    import tensorflow as tf

    module = _module(tables)
    ids, number, flag = tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.bool)
    recommend = module.recommend.get_concrete_function(user_id=ids, k=number, exclude_seen=flag)
    predict = module.predict.get_concrete_function(user_id=ids, item_id=ids)
    tf.saved_model.save(module, str(folder), signatures={"recommend": recommend, "predict": predict})


def _module(tables: Tables) -> Any:
    import tensorflow as tf

    U, C = len(tables.users), len(tables.items)

    class Module(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items = tf.Variable(with_mean(tables.users)), tf.Variable(with_mean(tables.items))
            self.user_codes, self.item_codes = _codes(tables.user_ids), _codes(tables.item_ids)

        @tf.function  # type: ignore[untyped-decorator]
        def recommend(self, user_id: Any, k: Any, exclude_seen: Any) -> dict[str, Any]:
            code = self.user_codes.lookup(user_id)
            scores = tf.matmul(tf.gather(self.users, code), self.items[:-1], transpose_b=True)
            hidden = tf.logical_and(tf.gather(tf.constant(tables.seen), code), exclude_seen)
            top = tf.math.top_k(tf.where(hidden, -np.inf, scores), k)
            place = tf.where(tf.math.is_inf(top.values), C, top.indices)
            return {
                "item_ids": tf.gather(tf.constant([*tables.item_ids, ""]), place),
                "titles": tf.gather(tf.constant([*tables.titles, ""]), place),
                "scores": top.values,
                "known": code < U,
            }

        @tf.function  # type: ignore[untyped-decorator]
        def predict(self, user_id: Any, item_id: Any) -> dict[str, Any]:
            user, item = self.user_codes.lookup(user_id), self.item_codes.lookup(item_id)
            product = tf.reduce_sum(tf.gather(self.users, user) * tf.gather(self.items, item), axis=1)
            return {
                "ratings": tf.clip_by_value(3 + product, LOW, HIGH),
                "known_users": user < U,
                "known_items": item < C,
            }

    return Module()


def _codes(ids: list[str]) -> Any:
    import tensorflow as tf

    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(ids, tf.range(len(ids))), len(ids))


def with_mean(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a table with the row of the unknown user or item below it."""
    return np.concatenate([table, table.mean(axis=0, keepdims=True)])

"""A model's answers as JSON, made where the model works and not in the event loop."""

import json
from collections.abc import Sequence
from typing import Any

from mtsearch.serving.model import ServedModel

Pair = tuple[str, str]


class Answers:
    """JSON for one or many requests.

    Args:
        model: to ask.
    """

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    def recommend(self, key: tuple[int, bool], users: Sequence[str]) -> list[bytes]:
        """One `UserRecommendations` for each user; the key is k and whether to leave out what was seen."""
        return [_encoded(user) for user in self._recommended(key, users)]

    def recommend_many(self, key: tuple[int, bool], users: Sequence[str]) -> bytes:
        """A `ManyRecommendations`."""
        return _encoded({"results": self._recommended(key, users)})

    def predict(self, _key: None, pairs: Sequence[Pair]) -> list[bytes]:
        """One `PredictedRating` for each pair."""
        return [_encoded(pair) for pair in self._predicted(pairs)]

    def predict_many(self, pairs: Sequence[Pair]) -> bytes:
        """A `ManyPredictions`."""
        return _encoded({"results": self._predicted(pairs)})

    def _recommended(self, key: tuple[int, bool], users: Sequence[str]) -> list[dict[str, Any]]:
        found = self._model.recommend(users, *key)
        return [
            {"user": user, "known": known, "items": [item._asdict() for item in found.of(row)]}
            for row, (user, known) in enumerate(zip(users, found.known.tolist(), strict=True))
        ]

    def _predicted(self, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
        users, items = [user for user, _ in pairs], [item for _, item in pairs]
        found = self._model.predict(users, items)
        columns = found.ratings.tolist(), found.known_users.tolist(), found.known_items.tolist()
        names = ("user", "item", "rating", "known_user", "known_item")
        return [dict(zip(names, row, strict=True)) for row in zip(users, items, *columns, strict=True)]


def _encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

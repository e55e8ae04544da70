"""What a table and its split are like, in numbers."""

from typing import Any

import numpy as np

from mtsearch.data.interactions import Interactions, Rows
from mtsearch.data.split import Split

_BARS = 10


def facts_of(interactions: Interactions, split: Split) -> dict[str, Any]:
    """Plain values: rows, ids, density, ratings, dates, the parts of the split and who is cold in them.

    Cold are users and items without a training row. The density is the share of all pairs of a user and an item that
    have a row. Where users were drawn to validate on, the rows of the others are `set_aside`.
    """
    rows, reading = interactions.rows, interactions.reading
    pairs = _pairs(interactions)
    users, items = np.unique(rows.users), np.unique(rows.items)
    return {
        "read": {
            "columns": dict(reading.columns),
            "ignored": list(reading.ignored),
            "feedback": reading.feedback,
            "times": reading.time_unit,
            "rows": reading.rows,
            "treated": dict(reading.counts),
        },
        "rows": len(rows),
        "users": len(users),
        "items": len(items),
        "catalogue": len(split.catalogue),
        "titles": interactions.titles is not None,
        "density": pairs / (len(users) * len(items)),
        "repeated_pairs": len(rows) - pairs,
        "ratings": _ratings(rows),
        "dates": _dates(rows) if reading.time_unit else None,
        "split": {
            "train": {"rows": len(split.train)},
            "validation": _part(split, split.validation),
            **({} if split.set_aside is None else {"set_aside": _part(split, split.set_aside)}),
            "test": _part(split, split.test),
        },
    }


def _pairs(interactions: Interactions) -> int:
    rows = interactions.rows
    return int(np.count_nonzero((rows.users[1:] != rows.users[:-1]) | (rows.items[1:] != rows.items[:-1]))) + 1


def _ratings(rows: Rows) -> dict[str, Any]:
    ratings = rows.ratings.astype(np.float64)
    return {
        "lowest": float(ratings.min()),
        "highest": float(ratings.max()),
        "mean": float(ratings.mean()),
        "histogram": _histogram(ratings),
    }


def _histogram(ratings: np.ndarray[Any, np.dtype[np.float64]]) -> list[dict[str, float]]:
    """Each value, or ten equal ranges of values where there are more."""
    values, counts = np.unique(ratings, return_counts=True)
    if len(values) <= _BARS + 1:
        return [{"low": float(v), "high": float(v), "rows": int(n)} for v, n in zip(values, counts, strict=True)]
    edges = np.linspace(values[0], values[-1], _BARS + 1)
    counts, _ = np.histogram(ratings, edges)
    return [
        {"low": float(low), "high": float(high), "rows": int(n)}
        for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def _dates(rows: Rows) -> dict[str, str]:
    ends = {"first": rows.timestamps.min(), "last": rows.timestamps.max()}
    return {name: str(np.datetime64(int(second), "s")) for name, second in ends.items()}


def _part(split: Split, part: Rows) -> dict[str, int]:
    cold_user, cold_item = ~split.known_users[part.users], ~split.known_items[part.items]
    return {
        "rows": len(part),
        "cold_users": len(np.unique(part.users[cold_user])),
        "rows_of_cold_users": int(cold_user.sum()),
        "cold_items": len(np.unique(part.items[cold_item])),
        "rows_of_cold_items": int(cold_item.sum()),
        "rows_outside_catalogue": int((~np.isin(part.items, split.catalogue)).sum()),
    }

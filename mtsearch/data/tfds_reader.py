"""Reads MovieLens with TensorFlow Datasets, in a process of its own: `python -m mtsearch.data.tfds_reader SIZE OUT`.

The only module of `data` that imports TensorFlow, and one that nothing imports: the caller can end it at any time, and
pays neither for TensorFlow's import nor for what it keeps of the memory.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mtsearch.data import cache
from mtsearch.data.interactions import Interactions

# Rows at a time: big enough that Python is not the bottleneck, small beside the memory.
_BATCH = 65_536


def interactions(size: str) -> Interactions:
    """The ratings of `movielens/SIZE`, items keyed by title, with the titles of all movies as the catalogue."""
    text: dict[bytes, str] = {}
    users: list[str] = []
    items: list[str] = []
    ratings, timestamps = [], []
    for batch in _batches(f"movielens/{size}-ratings", "user_id", "movie_title", "user_rating", "timestamp"):
        users.extend(_decoded(batch["user_id"], text))
        items.extend(_decoded(batch["movie_title"], text))
        ratings.append(batch["user_rating"])
        timestamps.append(batch["timestamp"])
    catalogue: list[str] = []
    for batch in _batches(f"movielens/{size}-movies", "movie_title"):
        catalogue.extend(_decoded(batch["movie_title"], text))
    return Interactions.from_columns(users, items, np.concatenate(ratings), np.concatenate(timestamps), catalogue)


def _batches(name: str, *features: str) -> Iterator[dict[str, Any]]:
    builder = tfds.builder(name)
    builder.download_and_prepare()
    wanted = tfds.decode.PartialDecoding(dict.fromkeys(features, True))
    yield from tfds.as_numpy(builder.as_dataset(split="train", batch_size=_BATCH, decoders=wanted))


def _decoded(column: Any, text: dict[bytes, str]) -> Iterator[str]:
    """Strings, one object per distinct id; titles end in a space in places, which no other form of the data keeps."""
    values = column.tolist()
    text.update((value, value.decode().strip()) for value in set(values) - text.keys())
    return map(text.__getitem__, values)


def main(size: str, out: str) -> int:
    """Write the table to `out` in the form of the cache; the reason of a failure is the last line on stderr."""
    try:
        tfds.disable_progress_bar()
        cache.store(Path(out), f"movielens/{size}", interactions(size))
    except Exception as error:  # whatever TensorFlow Datasets raises: the caller has another source
        first = next(iter(str(error).splitlines()), "")
        print(f"\n{type(error).__name__}: {first}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

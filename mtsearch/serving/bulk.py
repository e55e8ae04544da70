"""A model asked about every row of a file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mtsearch.errors import RequestError
from mtsearch.serving.files import IdFile, check_output, write_tables
from mtsearch.serving.model import ServedModel
from mtsearch.serving.requests import check_k, problem_of, shown

_SCORES_AT_ONCE = 1 << 22  # 16 MiB of float32; TensorFlow holds a few such blocks
_PAIRS_AT_ONCE = 1 << 13

_RECOMMENDED = pa.schema({
    "user": pa.string(), "known": pa.bool_(), "rank": pa.int32(), "item": pa.string(), "title": pa.string(),
    "rating": pa.float32(), "score": pa.float32(),
})  # fmt: skip
_PREDICTED = pa.schema({
    "user": pa.string(), "item": pa.string(), "rating": pa.float32(),
    "known_user": pa.bool_(), "known_item": pa.bool_(),
})  # fmt: skip


@dataclass
class Done:
    """What was read and written.

    Attributes:
        read: rows of the input.
        written: rows of the output.
        unknown: rows of the input with an id that the model was not trained on.
        by_place: columns of the input that were taken for user and item by their place; empty where their names told.
    """

    by_place: list[str]
    read: int = 0
    written: int = 0
    unknown: int = 0


def recommend_file(model: Callable[[], ServedModel], source: Path, output: Path, k: int, exclude_seen: bool) -> Done:
    """The best k items of each user of a file, a row each: `user known rank item title rating score`.

    Args:
        model: gives the model, after the files were looked at.
        source: CSV, TSV or Parquet; the users are the column `user`, else one of a usual name, else the first.
        output: .csv, .parquet or .jsonl.
        k: 1..C; fewer rows where fewer items are left.
        exclude_seen: leave out what the user had rated.

    Raises:
        RequestError: a file cannot be read or written, or an id is none.
    """
    check_output(output, source)
    file = IdFile(source, ["user"])
    served = model()
    check_k(k, served.facts.catalogue)
    _refuse_missing_header(served, file, ["user"])
    done = Done(file.columns if file.by_place else [])
    users_at_once = max(1, min(1024, _SCORES_AT_ONCE // served.facts.catalogue))

    def tables() -> Iterator[dict[str, Any]]:
        for (users,) in file.blocks(users_at_once):
            found = served.recommend(users, k, exclude_seen)
            done.read += len(users)
            done.unknown += int((~found.known).sum())
            row, rank = np.nonzero(found.items != "")
            yield {
                "user": np.array(users, object)[row],
                "known": found.known[row],
                "rank": (rank + 1).astype(np.int32),
                "item": found.items[row, rank],
                "title": found.titles[row, rank],
                "rating": found.ratings[row, rank],
                "score": found.scores[row, rank],
            }

    done.written = write_tables(output, _RECOMMENDED, tables())
    return done


def predict_file(model: Callable[[], ServedModel], source: Path, output: Path) -> Done:
    """The rating of each pair of a file, a row each: `user item rating known_user known_item`.

    Args:
        model: gives the model, after the files were looked at.
        source: CSV, TSV or Parquet; columns `user` and `item`, else of usual names, else the first two.
        output: .csv, .parquet or .jsonl.

    Raises:
        RequestError: a file cannot be read or written, or an id is none.
    """
    check_output(output, source)
    file = IdFile(source, ["user", "item"])
    served = model()
    _refuse_missing_header(served, file, ["user", "item"])
    done = Done(file.columns if file.by_place else [])

    def tables() -> Iterator[dict[str, Any]]:
        for users, items in file.blocks(_PAIRS_AT_ONCE):
            found = served.predict(users, items)
            done.read += len(users)
            done.unknown += int((~(found.known_users & found.known_items)).sum())
            yield {
                "user": users,
                "item": items,
                "rating": found.ratings,
                "known_user": found.known_users,
                "known_item": found.known_items,
            }

    done.written = write_tables(output, _PREDICTED, tables())
    return done


def _refuse_missing_header(model: ServedModel, file: IdFile, names: list[str]) -> None:
    """A file that begins with a user would lose that one to the header."""
    first = file.columns[0].strip()
    if file.by_place and not problem_of(first) and model.recommend([first], 1).known[0]:
        header = ",".join(names)
        raise RequestError(f"{file.path} has no header line: {shown(first)} in it is a user",
                           f"begin it with the line {header}")  # fmt: skip

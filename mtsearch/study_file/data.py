"""`[data]` and `[split]` of a study file: where the ratings come from, how they are read, and which are held out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from mtsearch.study_file.parameters import NOT_STRICT, Number, Section
from mtsearch.study_file.paths import PATHS, anchored

Share = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, Field(min_length=1)]
Feedback = Literal["explicit", "binary", "count"]


class Columns(Section):
    """What the columns of the table are called; those of a usual name are found without.

    Attributes:
        user: who; text or whole numbers.
        item: what; text or whole numbers.
        rating: how much: stars, or with feedback = "count" a number of times.
        timestamp: when: seconds, milliseconds, microseconds or nanoseconds since 1970, or dates as in 2026-01-31.
    """

    user: Name | None = None
    item: Name | None = None
    rating: Name | None = None
    timestamp: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_weight(cls, raw: object) -> object:
        if isinstance(raw, Mapping) and "weight" in raw:
            raise ValueError("weight: every row counts the same in training and in the metrics: leave it out")
        return raw


class ItemColumns(Section):
    """What the columns of the items file are called.

    Attributes:
        item: as in the table.
        title: what `recommend` shows beside the id.
    """

    item: Name | None = None
    title: Name | None = None


class DataSection(Section):
    """Where the ratings come from.

    Attributes:
        source: movielens/100k, 1m, 20m or 25m; synthetic/100k, 1m or 25m, made up and as large; or a path: an ml-100k
            folder or zip; a table as Parquet, CSV, TSV, JSON Lines or RecBole's .inter, also with .gz; a folder of
            Parquet files. Relative to the study file's folder.
        columns: of such a table.
        items: the path of another table: what may be recommended, and the titles. Without one that is every item of the
            training side.
        item_columns: of that table.
        feedback: what a row says. explicit is a rating; binary is 1 for each row, those whose rating column says 0 left
            out; count is log(1 + number of times), and 0 times is left out. Without a rating column binary.
        rating_range: lowest and highest rating, or number of times, that is one.
        missing: rows without a user, an item, or a value of another column that is read.
        out_of_range: rows whose rating is infinite or outside rating_range.
        duplicates: rows of a user and an item that have several. keep all of them, drop exact copies, keep the last by
            time (of one time the last in a table), or make one of them with their mean rating and their last time.
    """

    source: Name = "movielens/100k"
    columns: Columns = Columns()
    items: Name | None = None
    item_columns: ItemColumns = ItemColumns()
    feedback: Feedback | None = None
    rating_range: Annotated[tuple[Number, Number], NOT_STRICT] | None = None
    missing: Literal["error", "drop"] = "error"
    out_of_range: Literal["error", "drop", "clip"] = "error"
    duplicates: Literal["keep", "error", "drop", "last", "mean"] = "keep"

    @field_validator(*PATHS)
    @classmethod
    def _absolute(cls, text: str | None) -> str | None:
        # NOTE: so that a study and an export find the file again, from wherever they are read.
        return text and anchored(text, Path.cwd())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rating_range and self.rating_range[0] > self.rating_range[1]:
            raise ValueError(f"rating_range: {self.rating_range[0]} is above {self.rating_range[1]}")
        if self.out_of_range == "clip" and self.rating_range is None:
            raise ValueError('out_of_range = "clip" needs a rating_range to clip to')
        if self.items is None and self.item_columns != ItemColumns():
            raise ValueError("item_columns names columns of a file that `items` does not name: add items")
        return self

    @model_serializer(mode="wrap")
    def _without_empty_tables(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = written(self)
        return {key: value for key, value in fields.items() if not isinstance(value, dict) or any(value.values())}


class SplitSection(Section):
    """Which rows are held out.

    Attributes:
        method: random draws them. temporal takes the last by time, temporal_user the last of each user, leave_last the
            last k of each user to test and the k before to validate, a user's first row never; of one time the order of
            the sorted table decides. column reads the part of each row.
        test: share of all rows, or of each user's; the search never sees them. None of leave_last and column.
        validation: share of the rest, that trials are judged on; "test" only where there is no [space].
        validation_users: how many users with validation rows trials are judged on, drawn once, the same for all; left
            out, or where there are no more, on all. Test rows are always those of all users.
        seed: of the draws.
        k: of leave_last; 1 where it is left out.
        column: of the method column: its name in the table; its values are train, validation and test.
    """

    method: Literal["random", "temporal", "temporal_user", "leave_last", "column"] = "random"
    test: Share = 0.2
    validation: Share | Literal["test"] = 0.1
    validation_users: Annotated[int, Field(ge=2, lt=2**31)] | None = None
    seed: Seed = 42
    k: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    column: Name | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.column is None) == (self.method == "column"):
            raise ValueError('method = "column" and column = "..." go together: give both or neither')
        if self.k is not None and self.method != "leave_last":
            raise ValueError('k is of method = "leave_last": leave it out')
        if self.validation_users is not None and self.validation == "test":
            raise ValueError('validation_users draws users of validation rows, and validation = "test" has none')
        return self

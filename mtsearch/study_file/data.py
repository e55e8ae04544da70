"""`[data]` and `[split]` of a study file: where the ratings come from, how they are read, and which are held out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from mtsearch.study_file.parameters import Number, Section
from mtsearch.study_file.paths import PATHS, anchored

Share = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, Field(min_length=1)]
Feedback = Literal["explicit", "binary", "count"]


class Columns(Section):
    """What the columns of the table are called; those of a usual name are found without."""

    user: Name | None = Field(default=None, description="Column of the user's id; text or whole numbers.")
    item: Name | None = Field(default=None, description="Column of the item's id; text or whole numbers.")
    rating: Name | None = Field(
        default=None, description='Column of the rating: stars, or with feedback = "count" a number of times.'
    )
    timestamp: Name | None = Field(
        default=None,
        description="Column of the time: seconds, milliseconds, microseconds or nanoseconds since 1970, or dates as "
        "in 2026-01-31.",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_weight(cls, raw: object) -> object:
        if isinstance(raw, Mapping) and "weight" in raw:
            raise ValueError("weight: every row counts the same in training and in the metrics: leave it out")
        return raw


class ItemColumns(Section):
    """What the columns of the items file are called."""

    item: Name | None = Field(default=None, description="Column of the item's id, as in the table.")
    title: Name | None = Field(default=None, description="Column of the title, which `recommend` shows beside the id.")


class DataSection(Section):
    """Where the ratings come from."""

    source: Name = Field(
        default="movielens/100k",
        description="movielens/100k, 1m, 20m or 25m; synthetic/100k, 1m or 25m, made up and as large; or a path: an "
        "ml-100k folder or zip; a table as Parquet, CSV, TSV, JSON Lines or RecBole's .inter, also with .gz; a "
        "folder of Parquet files. Relative to the study file's folder.",
    )
    columns: Columns = Field(default=Columns(), description="Names of the columns of such a table.")
    items: Name | None = Field(
        default=None,
        description="Path of another table: the items that may be recommended, and their titles. Without one it is "
        "every item of the training side.",
    )
    item_columns: ItemColumns = Field(default=ItemColumns(), description="Names of the columns of that table.")
    feedback: Feedback | None = Field(
        default=None,
        description="Meaning of a row: explicit is a rating; binary is 1 for each row, those whose rating column says "
        "0 left out; count is log(1 + number of times), and 0 times is left out. Without a rating column binary.",
    )
    rating_range: tuple[Number, Number] | None = Field(
        default=None, strict=False, description="Lowest and highest rating, or number of times, that is allowed."
    )
    missing: Literal["error", "drop"] = Field(
        default="error",
        description="What to do with rows without a user, an item, or a value of another column that is read.",
    )
    out_of_range: Literal["error", "drop", "clip"] = Field(
        default="error", description="What to do with rows whose rating is infinite or outside rating_range."
    )
    duplicates: Literal["keep", "error", "drop", "last", "mean"] = Field(
        default="keep",
        description="Several rows of one user and one item: keep all of them, drop exact copies, keep the last by "
        "time (of one time the last in a table), or make one of them with their mean rating and their last time.",
    )

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
    """Which rows are held out."""

    method: Literal["random", "temporal", "temporal_user", "leave_last", "column"] = Field(
        default="random",
        description="random draws the rows that are held out. temporal takes the last by time, temporal_user the last "
        "of each user, leave_last the last k of each user to test and the k before to validate, a user's first row "
        "never; of one time the order of the sorted table decides. column reads the part of each row.",
    )
    test: Share = Field(
        default=0.2,
        description="Share of all rows, or of each user's; the search never sees them. Not for leave_last and column.",
    )
    validation: Share | Literal["test"] = Field(
        default=0.1, description='Share of the rest, on which trials are judged; "test" only if there is no [space].'
    )
    validation_users: int | None = Field(
        default=None,
        ge=2,
        lt=2**31,
        description="Number of users with validation rows on whom trials are judged, drawn once, the same for all "
        "trials; left out, or if there are no more, all of them. Test rows are always those of all users.",
    )
    seed: Seed = Field(default=42, description="Seed of the draws.")
    k: int | None = Field(
        default=None,
        ge=1,
        lt=2**31,
        description="Rows that leave_last holds out of each user for each part; 1 if it is left out.",
    )
    column: Name | None = Field(
        default=None, description="Column that method column reads: its values are train, validation and test."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.column is None) == (self.method == "column"):
            raise ValueError('method = "column" and column = "..." go together: give both or neither')
        if self.k is not None and self.method != "leave_last":
            raise ValueError('k is of method = "leave_last": leave it out')
        if self.validation_users is not None and self.validation == "test":
            raise ValueError('validation_users draws users of validation rows, and validation = "test" has none')
        return self

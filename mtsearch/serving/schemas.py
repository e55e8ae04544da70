"""What goes over HTTP, bounded: requests refuse what they do not know, answers are described for /openapi.json."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from mtsearch.serving.requests import MAX_ID

MAX_BATCH = 1000
MAX_ANSWERS = 50_000
"""Items in one answer, all users together: about 5 MB of JSON."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID)]
K = Annotated[int, Field(ge=1, description="How many items; at most the size of the catalogue.")]


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class RecommendQuery(_Query):
    """Who is recommended how many items."""

    user: Id
    k: K = 10
    exclude_seen: bool = True


class RecommendBody(_Body):
    """Who is recommended how many items each; users times k is at most 50,000."""

    users: Annotated[list[Id], Field(min_length=1, max_length=MAX_BATCH)]
    k: K = 10
    exclude_seen: bool = True


class PredictQuery(_Query):
    """A user and an item."""

    user: Id
    item: Id


class Pair(_Body):
    """A user and an item."""

    user: Id
    item: Id


class PredictBody(_Body):
    """Users and items, pair by pair."""

    pairs: Annotated[list[Pair], Field(min_length=1, max_length=MAX_BATCH)]


class RecommendedItem(BaseModel):
    """An item; `score` is that of retrieval, `rating` in the data's unit."""

    item: str
    title: str
    score: float
    rating: float


class UserRecommendations(BaseModel):
    """Best first. A user who is not `known` was not trained on and gets what suits the average user."""

    user: str
    known: bool
    items: list[RecommendedItem]


class ManyRecommendations(BaseModel):
    """In the order of the request."""

    results: list[UserRecommendations]


class PredictedRating(BaseModel):
    """`rating` in the data's unit; the average stands for a user or an item that is not known."""

    user: str
    item: str
    rating: float
    known_user: bool
    known_item: bool


class ManyPredictions(BaseModel):
    """In the order of the request."""

    results: list[PredictedRating]


class Problem(BaseModel):
    """What was wrong with a request, in one line."""

    error: str

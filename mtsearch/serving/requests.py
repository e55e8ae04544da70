"""Define and check the requests to a model and its answers over HTTP; ids and numbers are limited before TensorFlow."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from mtsearch.errors import RequestError
from mtsearch.text import quote_id

MAX_ID = 256
"""Largest number of characters of an id."""


def check_ids(ids: Iterable[str], what: str) -> None:
    """Refuse the first id that is not valid.

    Args:
        ids: to check.
        what: `user` or `item`, for the message.

    Raises:
        RequestError: an id is not valid; the message names it.
    """
    for place, id_ in enumerate(ids):
        problem = find_id_problem(id_)
        if problem:
            where = f" number {place + 1}" if place else ""
            raise RequestError(f"{what} id{where}: {quote_id(id_)} {problem}", f"give a {what} id as in the data")


def find_id_problem(id_: str) -> str:
    """Return the reason why a text cannot be an id; empty if it can."""
    if not id_:
        return "is empty"
    if len(id_) > MAX_ID:
        return f"has {len(id_):,} characters; at most {MAX_ID} are allowed"
    if "\0" in id_:
        return "has a NUL byte"
    try:
        id_.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return ""


def check_k(k: int, catalogue: int) -> None:
    """Refuse a number of recommendations that is not between 1 and the size of the catalogue.

    Raises:
        RequestError: k is not in 1..C.
    """
    if not 1 <= k <= catalogue:
        name = f"k = {k}" if abs(k) < 10**15 else "k"
        raise RequestError(f"{name} is not between 1 and {catalogue}, the number of items in the catalogue",
                           f"ask for at most {catalogue}")  # fmt: skip


MAX_BATCH = 1000
MAX_ANSWERS = 50_000
"""Items in one answer, all users together: about 5 MB of JSON."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID)]
K = Annotated[int, Field(ge=1, description="How many items; at most the size of the catalogue.")]


class _Query(BaseModel):
    """The parameters of a GET request; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")


class _Body(BaseModel):
    """The body of a POST request; unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RecommendQuery(_Query):
    """The user to recommend items to, and their number."""

    user: Id
    k: K = 10
    exclude_seen: bool = True


class RecommendBody(_Body):
    """The users to recommend items to, and the number of items for each; users times k is at most 50,000."""

    users: Annotated[list[Id], Field(min_length=1, max_length=MAX_BATCH)]
    k: K = 10
    exclude_seen: bool = True


class PredictQuery(_Query):
    """The user and the item whose rating is predicted."""

    user: Id
    item: Id


class Pair(_Body):
    """A user and an item."""

    user: Id
    item: Id


class PredictBody(_Body):
    """The pairs of a user and an item whose ratings are predicted."""

    pairs: Annotated[list[Pair], Field(min_length=1, max_length=MAX_BATCH)]


class RecommendedItem(BaseModel):
    """A recommended item; `score` is that of retrieval, `rating` is in rating units."""

    item: str
    title: str
    score: float
    rating: float


class UserRecommendations(BaseModel):
    """The items of one user, best first. A user who is not `known` gets those of the average user."""

    user: str
    known: bool
    items: list[RecommendedItem]


class ManyRecommendations(BaseModel):
    """The items of several users, in the order of the request."""

    results: list[UserRecommendations]


class PredictedRating(BaseModel):
    """A predicted rating, in rating units; for an unknown user or item it is that of the average one."""

    user: str
    item: str
    rating: float
    known_user: bool
    known_item: bool


class ManyPredictions(BaseModel):
    """The predicted ratings of several pairs, in the order of the request."""

    results: list[PredictedRating]


class Problem(BaseModel):
    """The error of a request, in one line."""

    error: str

"""Define and check the requests to a model and its answers over HTTP; ids and numbers are limited before TensorFlow."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, create_model

from mtsearch.errors import RequestError
from mtsearch.metrics import TaskKind
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
TaskName = Annotated[str, StringConstraints(max_length=MAX_ID)]
_TASKS = "Task of retrieval to rank by, or several, each with a list; by default the model's first."


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


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
    task: list[TaskName] = Field(default=[], description=_TASKS)


class RecommendBody(_Body):
    """The users to recommend items to, and the number of items for each; users x k x tasks is at most 50,000."""

    users: Annotated[list[Id], Field(min_length=1, max_length=MAX_BATCH)]
    k: K = 10
    exclude_seen: bool = True
    task: Annotated[
        list[TaskName],
        BeforeValidator(_as_list),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(default=[], description=_TASKS)


class PredictQuery(_Query):
    """The user and the item to predict for."""

    user: Id
    item: Id


class Pair(_Body):
    """A user and an item."""

    user: Id
    item: Id


class PredictBody(_Body):
    """The pairs of a user and an item to predict for."""

    pairs: Annotated[list[Pair], Field(min_length=1, max_length=MAX_BATCH)]


class AnswerModels(NamedTuple):
    """The answers of a model as its OpenAPI description has them.

    Attributes:
        recommend, recommend_many: of one user and of several.
        predict, predict_many: of one pair and of several.
    """

    recommend: Any
    recommend_many: type[BaseModel]
    predict: type[BaseModel]
    predict_many: type[BaseModel]


def make_answer_models(tasks: Mapping[str, TaskKind]) -> AnswerModels:
    """Describe the answers of a model with these tasks; what is predicted has the names of its tasks."""
    rankings = [name for name, kind in tasks.items() if kind == "retrieval"]
    # Fields have numbers for names, with the task as an alias: a task may be called like a method of a model.
    predictions: dict[str, Any] = {
        f"task_{number}": (float, Field(alias=name, description=_PREDICTED[kind]))
        for number, (name, kind) in enumerate(tasks.items())
        if kind != "retrieval"
    }
    item = create_model("RecommendedItem", __doc__="A recommended item; `score` is that of retrieval.",
                        item=(str, ...), title=(str, ...), score=(float, ...), **predictions)  # fmt: skip
    user: dict[str, Any] = {"user": (str, ...), "known": (bool, ...)}
    one: Any = create_model("UserRecommendations", __doc__=_OF_USER, **user, items=(list[item], ...))  # type: ignore[valid-type]
    if len(rankings) > 1:
        lists = {f"task_{number}": (list[item] | None, Field(default=None, alias=name))  # type: ignore[valid-type]
                 for number, name in enumerate(rankings)}  # fmt: skip
        of_tasks = create_model("TaskLists", __doc__="The items by each task that was asked for.", **lists)  # type: ignore[call-overload]
        one |= create_model("UserTaskRecommendations", __doc__=_OF_TASKS, **user, tasks=(of_tasks, ...))
    pair = create_model("PredictedPair", __doc__=_OF_PAIR, user=(str, ...), item=(str, ...), **predictions,
                        known_user=(bool, ...), known_item=(bool, ...))  # fmt: skip
    return AnswerModels(
        one,
        create_model("ManyRecommendations", __doc__=_OF_MANY_USERS, results=(list[one], ...)),
        pair,
        create_model("ManyPredictions", __doc__=_OF_MANY_PAIRS, results=(list[pair], ...)),  # type: ignore[valid-type]
    )


_PREDICTED = {"rating": "Predicted, in the unit of the ratings.", "label": "Chance of a yes."}
_OF_USER = "The items of one user, best first. A user who is not `known` gets those of the average user."
_OF_TASKS = "The items of one user by several tasks, where several were asked for."
_OF_MANY_USERS = "The items of several users, in the order of the request."
_OF_PAIR = "What is predicted for a user and an item; for an unknown one of them it is that of the average one."
_OF_MANY_PAIRS = "What is predicted for several pairs, in the order of the request."


class Problem(BaseModel):
    """The error of a request, in one line."""

    error: str

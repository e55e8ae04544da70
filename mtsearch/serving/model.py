"""Load a trained model and answer in NumPy (`ServedModel`); its `model.json` is read before TensorFlow starts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mtsearch.errors import ModelError, RequestError
from mtsearch.host import start_tensorflow, usable_cores
from mtsearch.metrics import TUTORIAL_KINDS, TaskKind, output_name
from mtsearch.serving.requests import check_ids, check_k
from mtsearch.signals import defer_signals
from mtsearch.text import listing, quote

Signature = Callable[..., dict[str, Any]]

_DAMAGED = "write the folder again with `mtsearch retrain`"
_RECOMMEND = (
    {"user_id": "string", "k": "int32", "exclude_seen": "bool"},
    {"item_ids": "string", "titles": "string", "scores": "float32", "known": "bool"},
)
_PREDICT = ({"user_id": "string", "item_id": "string"}, {"known_users": "bool", "known_items": "bool"})
"""Inputs and outputs of the signatures; `predict` has an output for each task of ratings and labels besides."""


@dataclass(frozen=True)
class Predictions:
    """Predictions for B pairs of a user and an item.

    Attributes:
        of_tasks: `[B]` float32 of each task of ratings and labels, in the study's order: ratings in their units, within
            the range of the training rows; of labels the chance of a yes.
        known_users, known_items: `[B]` bool, True if the model was trained on them.
    """

    of_tasks: Mapping[str, NDArray[np.float32]]
    known_users: NDArray[np.bool_]
    known_items: NDArray[np.bool_]

    @property
    def ratings(self) -> NDArray[np.float32]:
        """Predictions `[B]` of the task `rating`, which a study without [tasks] has."""
        return self.of_tasks["rating"]


class Recommended(NamedTuple):
    """One item of the list of a user.

    Attributes:
        predictions: what each task of ratings and labels predicts for the user and this item; see `Predictions`.
    """

    item: str
    title: str
    score: float
    predictions: Mapping[str, float]

    @property
    def rating(self) -> float:
        """Prediction of the task `rating`, which a study without [tasks] has."""
        return self.predictions["rating"]


@dataclass(frozen=True)
class Recommendations:
    """The best k items of B users by one task of retrieval, best first.

    Attributes:
        items, titles: `[B, k]` str; empty where a user had fewer than k items left.
        scores: `[B, k]` float32, of the task, descending; -inf where there is no item.
        predictions: `[B, k]` float32 of each task of ratings and labels; NaN where there is no item.
        known: `[B]` bool; a user that the model was not trained on gets the list of the average user.
    """

    items: NDArray[np.object_]
    titles: NDArray[np.object_]
    scores: NDArray[np.float32]
    predictions: Mapping[str, NDArray[np.float32]]
    known: NDArray[np.bool_]

    @property
    def ratings(self) -> NDArray[np.float32]:
        """Predictions `[B, k]` of the task `rating`, which a study without [tasks] has."""
        return self.predictions["rating"]

    def of(self, row: int) -> list[Recommended]:
        """Return the list of one user, by row; it is shorter than k if fewer items were left."""
        predictions = {task: values[row].tolist() for task, values in self.predictions.items()}
        columns = zip(self.items[row], self.titles[row], self.scores[row].tolist(), strict=True)
        return [
            Recommended(*values, {task: column[place] for task, column in predictions.items()})
            for place, values in enumerate(columns)
            if values[0]
        ]


class ServedModel:
    """A loaded model that `mtsearch retrain` wrote; its methods may be called from several threads.

    Attributes:
        info: the size of the model, and the version and time that made it.
    """

    def __init__(self, info: ModelInfo, loaded: Any, saved: Path) -> None:
        self.info = info
        self._loaded = loaded  # owns the variables: its signatures do not keep them alive
        outputs = {output_name(task): "float32" for task in info.heads}
        inputs, known = _PREDICT
        self._predict = _require_signature(saved, loaded, "predict", inputs, outputs | known) if outputs else None
        self._recommend = {}
        for task in info.rankings:
            name = "recommend" if len(info.rankings) == 1 else f"recommend_{task}"
            recommend = _require_signature(saved, loaded, name, *_RECOMMEND)
            self._recommend[task] = _combine_signatures(recommend, self._predict, info.heads)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load the model of a model folder.

        Raises:
            ModelError: the folder is missing, damaged, of a newer format, or no model folder.
        """
        folder = Path(folder)
        info = read_info(folder)
        saved = folder / SAVED_MODEL
        if not saved.is_dir():
            raise ModelError(f"{folder} is damaged: the SavedModel {saved} is missing", _DAMAGED)
        start_tensorflow()
        with defer_signals():
            model = cls(info, _load_saved_model(saved), saved)
            model._check_answers(saved)
        return model

    @defer_signals()
    def recommend(
        self, user_ids: Sequence[str], k: int = 10, exclude_seen: bool = True, task: str | None = None
    ) -> Recommendations:
        """Return the best items of each user.

        Args:
            user_ids: B ids of at most 256 characters.
            k: 1..C.
            exclude_seen: leave out the items that the user had in the training rows of the task.
            task: of retrieval, to rank by; None takes `info.first`.

        Raises:
            RequestError: an id or k is out of bounds, or the model has no such task.
        """
        (task,) = self.info.find_rankings([] if task is None else [task])
        check_k(k, self.info.catalogue)
        check_ids(user_ids, "user")
        return self._compute_recommendations(user_ids, k, exclude_seen, task)

    @defer_signals()
    def predict(self, users: Sequence[str], items: Sequence[str]) -> Predictions:
        """Return what the tasks of ratings and labels predict for B pairs of a user and an item.

        Raises:
            RequestError: an id is out of bounds, or the model has no such task.
            ValueError: there are not as many users as items.
        """
        if len(users) != len(items):
            raise ValueError(f"{len(users)} users and {len(items)} items: give as many users as items")
        self.info.require_heads()
        check_ids(users, "user")
        check_ids(items, "item")
        return self._compute_predictions(users, items)

    def knows_user(self, user: str) -> bool:
        """Return whether the model was trained on a user."""
        known = self.predict([user], [user]).known_users if self.info.heads else self.recommend([user], 1).known
        return bool(known[0])

    def _compute_recommendations(
        self, user_ids: Sequence[str], k: int, exclude_seen: bool, task: str
    ) -> Recommendations:
        import tensorflow as tf

        found = self._recommend[task](_string_tensor(user_ids), tf.constant(k, tf.int32), tf.constant(exclude_seen))
        items, titles, scores, known, *predicted = (values.numpy() for values in found)
        predictions = dict(zip(self.info.heads, predicted, strict=True))
        for values in predicted:
            values[np.isneginf(scores)] = np.nan
        return Recommendations(_decode(items), _decode(titles), scores, predictions, known)

    def _compute_predictions(self, users: Sequence[str], items: Sequence[str]) -> Predictions:
        assert self._predict is not None
        found = self._predict(user_id=_string_tensor(users), item_id=_string_tensor(items))
        predictions = {task: found[output_name(task)].numpy() for task in self.info.heads}
        return Predictions(predictions, found["known_users"].numpy(), found["known_items"].numpy())

    def _check_answers(self, saved: Path) -> None:
        """Ask the model once, so that damage is found at loading and the first request is answered faster."""
        catalogue = self.info.catalogue
        try:
            lists = [self._compute_recommendations(["", ""], catalogue, False, task) for task in self.info.rankings]
            if self.info.heads:
                self._compute_predictions(["", ""], ["", ""])
        except Exception as error:
            raise ModelError(f"the SavedModel {saved} cannot be run: {_first_line(error)}", _DAMAGED) from error
        if any(found.items.shape != (2, catalogue) or "" in found.items for found in lists):
            raise ModelError(f"the SavedModel {saved} does not match its model.json", _DAMAGED)


def _load_saved_model(saved: Path) -> Any:
    """Load a SavedModel on the CPU."""
    import tensorflow as tf

    # NOTE: threads can be set once per process; with TensorFlow's defaults, training in this process would then fail.
    with contextlib.suppress(RuntimeError):  # TensorFlow already runs
        tf.config.threading.set_intra_op_parallelism_threads(usable_cores())
        tf.config.threading.set_inter_op_parallelism_threads(1)
    try:
        # NOTE: on the CPU even if there is a GPU: the ranking of one user takes less time than a call of the GPU.
        with tf.device("/CPU:0"):
            return tf.saved_model.load(str(saved))
    except Exception as error:  # for a damaged file the loader raises almost any error
        raise ModelError(f"the SavedModel {saved} is damaged: {_first_line(error)}", _DAMAGED) from error


def _combine_signatures(
    recommend: Signature, predict: Signature | None, heads: Sequence[str]
) -> Callable[..., tuple[Any, ...]]:
    """Combine recommendation and prediction in one graph: most of the time for one user is TensorFlow's cost per call.

    The graph gives items, titles, scores, known, and the predictions of each of `heads`.
    """
    import tensorflow as tf

    def ask(users: Any, k: Any, exclude_seen: Any) -> tuple[Any, ...]:
        found = recommend(user_id=users, k=k, exclude_seen=exclude_seen)
        answer = tuple(found[name] for name in ("item_ids", "titles", "scores", "known"))
        if predict is None:
            return answer
        predicted = predict(user_id=tf.repeat(users, k), item_id=tf.reshape(found["item_ids"], [-1]))
        return *answer, *(tf.reshape(predicted[output_name(task)], [-1, k]) for task in heads)

    specs = tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.bool)
    return tf.function(ask).get_concrete_function(*specs)  # type: ignore[no-any-return]


def _require_signature(
    saved: Path, loaded: Any, name: str, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> Signature:
    """Return the signature of a name; refuse the model if its inputs or outputs are wrong."""
    signatures = getattr(loaded, "signatures", {})
    if name not in signatures:
        raise ModelError(f"the SavedModel {saved} has no signature {name!r}", _DAMAGED)
    signature = signatures[name]
    for words, found, expected in (
        ("take", signature.structured_input_signature[1], inputs),
        ("give", signature.structured_outputs, outputs),
    ):
        types = {key: spec.dtype.name for key, spec in found.items()}
        wrong = [key for key, dtype in expected.items() if types.get(key) != dtype]
        if wrong or (words == "take" and len(types) != len(expected)):
            named = ", ".join(f"{key} ({dtype})" for key, dtype in expected.items())
            raise ModelError(f"the signature {name!r} of the SavedModel {saved} does not {words} {named}", _DAMAGED)
    return signature  # type: ignore[no-any-return]


def _string_tensor(texts: Sequence[str]) -> Any:
    """Return texts as a string tensor `[B]`, without blanks around them, as training does with ids; B may be 0."""
    import tensorflow as tf

    return tf.constant([text.strip() for text in texts], tf.string, shape=[len(texts)])


def _decode(values: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return the bytes of TensorFlow as text."""
    decoded = np.empty(values.size, object)
    decoded[:] = [value.decode(errors="replace") for value in values.ravel()]
    return decoded.reshape(values.shape)


def _first_line(error: Exception) -> str:
    """Return the first line of an error message, cut to 200 characters."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


FORMAT = 2
"""Newest format of a model folder; a model with the tutorial's two tasks has format 1, which knows no others."""
SAVED_MODEL = "1"
CARD_FILE = "model_card.md"
INFO_FILE = "model.json"

_RETRAIN = "give a folder that `mtsearch retrain` wrote"
_RETRAIN_AGAIN = "write the folder again with `mtsearch retrain`"


class ModelInfo(BaseModel):
    """The content of `model.json`: the tasks and the size of the model, and the version and time that made it.

    Attributes:
        users, items: numbers of users and items with training rows.
        catalogue: C, number of items that can be recommended.
        rating_range: lowest and highest training rating; None if no task learns the column of ratings.
        tasks: kind of each task, in the study's order.
        first: task of retrieval that ranks unless another is asked for; None if there is none.
        created: ISO time at which the model was written.
        mtsearch: version that wrote it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    users: int = Field(ge=0)
    items: int = Field(ge=0)
    catalogue: int = Field(ge=1)
    rating_range: tuple[float, float] | None = None
    # A model of format 1 does not list its tasks, which are the tutorial's.
    tasks: dict[str, TaskKind] = Field(default_factory=lambda: dict(TUTORIAL_KINDS), min_length=1)
    first: str | None = Field(default_factory=lambda values: _first_ranking(values.get("tasks", {})))
    created: str = ""
    mtsearch: str = ""

    @property
    def rankings(self) -> list[str]:
        """Tasks of retrieval, in the study's order."""
        return [task for task, kind in self.tasks.items() if kind == "retrieval"]

    @property
    def heads(self) -> list[str]:
        """Tasks of ratings and labels, in the study's order."""
        return [task for task, kind in self.tasks.items() if kind != "retrieval"]

    def find_rankings(self, asked: Sequence[str]) -> list[str]:
        """Return the tasks of retrieval that are asked for, each once; of none asked for, the first.

        Raises:
            RequestError: one is no task of retrieval of the model, or the model has none.
        """
        if self.first is None:
            problem = "this model cannot recommend: it has tasks of ratings and labels only"
            raise RequestError(problem, "ask it to predict, or train with a task of kind retrieval")
        for name in asked:
            if name not in self.rankings:
                kind = self.tasks.get(name)
                problem = f"the model has no task {quote(name)}"
                if kind is not None:
                    problem = f"task {name} is of kind {kind} and ranks no items"
                raise RequestError(problem, f"ask for {listing(_by_likeness(name, self.rankings), 'or')}")
        return list(dict.fromkeys(asked)) or [self.first]

    def require_heads(self) -> None:
        """Refuse a model that only ranks.

        Raises:
            RequestError: it has no task of ratings or labels.
        """
        if not self.heads:
            problem = "this model cannot predict: it has tasks of retrieval only"
            raise RequestError(problem, "ask it to recommend, or train with a task of kind rating or label")

    @model_validator(mode="after")
    def _require_first(self) -> Self:
        if (self.first is None) != (not self.rankings) or (self.rankings and self.first not in self.rankings):
            raise ValueError("first is no task of retrieval")
        return self

    @field_validator("rating_range", mode="before")
    @classmethod
    def _make_tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


def _first_ranking(tasks: Mapping[str, TaskKind]) -> str | None:
    return next((task for task, kind in tasks.items() if kind == "retrieval"), None)


def _by_likeness(name: str, known: Sequence[str]) -> list[str]:
    """Return known names, the most similar to an unknown one first."""
    return sorted(known, key=lambda each: -SequenceMatcher(None, name, each).ratio())


def read_info(folder: Path) -> ModelInfo:
    """Read the `model.json` of a model folder.

    Raises:
        ModelError: there is none, it is damaged, or its format is newer than this version can read.
    """
    path = folder / INFO_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise _not_a_model_error(folder) from None
    except UnicodeDecodeError:
        raise ModelError(f"{path} is damaged: not UTF-8", _RETRAIN_AGAIN) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"{str(path)!r} cannot be read ({reason})", "check the path and its rights") from None
    return _parse_info(path, text)


def _not_a_model_error(folder: Path) -> ModelError:
    """Make the error for a path that is no model folder."""
    if not folder.exists():
        return ModelError(f"there is no folder {folder}", _RETRAIN)
    if not folder.is_dir():
        return ModelError(f"{folder} is a file, not a model folder", _RETRAIN)
    return ModelError(f"{folder} is not a model folder: it has no {INFO_FILE}", _RETRAIN)


def _parse_info(path: Path, text: str) -> ModelInfo:
    """Parse the text of a `model.json`, and refuse another format."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is damaged: not JSON", _RETRAIN_AGAIN) from None
    number = values.get("format") if isinstance(values, dict) else None
    if type(number) is not int or number < 1:
        raise ModelError(f"{path} is damaged: it has no format number", _RETRAIN_AGAIN)
    if number > FORMAT:
        maker = f"mtsearch {values['mtsearch']}" if isinstance(values.get("mtsearch"), str) else "a newer mtsearch"
        raise ModelError(
            f"{path.parent} was made by a newer mtsearch ({maker}, format {number}; this version reads {FORMAT})",
            "update with `pip install -U mtsearch`",
        )
    try:
        return ModelInfo.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(f"{path} is damaged: {place}: {first['msg'].lower()}", _RETRAIN_AGAIN) from None

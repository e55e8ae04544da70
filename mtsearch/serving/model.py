"""Load a trained model and answer in NumPy (`ServedModel`); its `model.json` is read before TensorFlow starts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mtsearch.errors import ModelError
from mtsearch.host import start_tensorflow, usable_cores
from mtsearch.serving.requests import check_ids, check_k
from mtsearch.signals import defer_signals

Signature = Callable[..., dict[str, Any]]

_DAMAGED = "write the folder again with `mtsearch retrain`"
_INPUTS = {
    "recommend": {"user_id": "string", "k": "int32", "exclude_seen": "bool"},
    "predict": {"user_id": "string", "item_id": "string"},
}
_OUTPUTS = {
    "recommend": {"item_ids": "string", "titles": "string", "scores": "float32", "known": "bool"},
    "predict": {"ratings": "float32", "known_users": "bool", "known_items": "bool"},
}


@dataclass(frozen=True)
class Predictions:
    """Ratings of B pairs of a user and an item.

    Attributes:
        ratings: `[B]` float32, in rating units, within the rating range of the training rows.
        known_users, known_items: `[B]` bool, True if the model was trained on them.
    """

    ratings: NDArray[np.float32]
    known_users: NDArray[np.bool_]
    known_items: NDArray[np.bool_]


class Recommended(NamedTuple):
    """One item of the list of a user."""

    item: str
    title: str
    score: float
    rating: float


@dataclass(frozen=True)
class Recommendations:
    """The best k items of B users, best first.

    Attributes:
        items, titles: `[B, k]` str; empty where a user had fewer than k items left.
        scores: `[B, k]` float32, of retrieval, descending; -inf where there is no item.
        ratings: `[B, k]` float32, predicted, in rating units; NaN where there is no item.
        known: `[B]` bool; a user that the model was not trained on gets the list of the average user.
    """

    items: NDArray[np.object_]
    titles: NDArray[np.object_]
    scores: NDArray[np.float32]
    ratings: NDArray[np.float32]
    known: NDArray[np.bool_]

    def of(self, row: int) -> list[Recommended]:
        """Return the list of one user, by row; it is shorter than k if fewer items were left."""
        columns = (self.items[row], self.titles[row], self.scores[row].tolist(), self.ratings[row].tolist())
        return [Recommended(*values) for values in zip(*columns, strict=True) if values[0]]


class ServedModel:
    """A loaded model that `mtsearch retrain` wrote; its methods may be called from several threads.

    Attributes:
        info: the size of the model, and the version and time that made it.
    """

    def __init__(self, info: ModelInfo, loaded: Any, saved: Path) -> None:
        self.info = info
        self._loaded = loaded  # owns the variables: its signatures do not keep them alive
        self._predict = _require_signature(saved, loaded, "predict")
        self._recommend = _combine_signatures(_require_signature(saved, loaded, "recommend"), self._predict)

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
    def recommend(self, user_ids: Sequence[str], k: int = 10, exclude_seen: bool = True) -> Recommendations:
        """Return the best items of each user.

        Args:
            user_ids: B ids of at most 256 characters.
            k: 1..C.
            exclude_seen: leave out the items that the user had rated in the training data.

        Raises:
            RequestError: an id or k is out of bounds.
        """
        check_k(k, self.info.catalogue)
        check_ids(user_ids, "user")
        return self._compute_recommendations(user_ids, k, exclude_seen)

    @defer_signals()
    def predict(self, users: Sequence[str], items: Sequence[str]) -> Predictions:
        """Return the predicted ratings of B pairs of a user and an item.

        Raises:
            RequestError: an id is out of bounds.
            ValueError: there are not as many users as items.
        """
        if len(users) != len(items):
            raise ValueError(f"{len(users)} users and {len(items)} items: give as many users as items")
        check_ids(users, "user")
        check_ids(items, "item")
        return self._compute_predictions(_string_tensor(users), _string_tensor(items))

    def _compute_recommendations(self, user_ids: Sequence[str], k: int, exclude_seen: bool) -> Recommendations:
        import tensorflow as tf

        found = self._recommend(_string_tensor(user_ids), tf.constant(k, tf.int32), tf.constant(exclude_seen))
        items, titles, scores, known, ratings = (values.numpy() for values in found)
        ratings[np.isneginf(scores)] = np.nan
        return Recommendations(_decode(items), _decode(titles), scores, ratings, known)

    def _compute_predictions(self, users: Any, items: Any) -> Predictions:
        found = self._predict(user_id=users, item_id=items)
        return Predictions(*(found[name].numpy() for name in _OUTPUTS["predict"]))

    def _check_answers(self, saved: Path) -> None:
        """Ask the model once, so that damage is found at loading and the first request is answered faster."""
        catalogue = self.info.catalogue
        try:
            found = self._compute_recommendations(["", ""], catalogue, False)
        except Exception as error:
            raise ModelError(f"the SavedModel {saved} cannot be run: {_first_line(error)}", _DAMAGED) from error
        if found.items.shape != (2, catalogue) or "" in found.items:
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


def _combine_signatures(recommend: Signature, predict: Signature) -> Callable[..., Any]:
    """Combine recommendation and rating in one graph: most of the time for one user is TensorFlow's cost per call."""
    import tensorflow as tf

    def ask(users: Any, k: Any, exclude_seen: Any) -> tuple[Any, ...]:
        found = recommend(user_id=users, k=k, exclude_seen=exclude_seen)
        items = found["item_ids"]
        rated = predict(user_id=tf.repeat(users, k), item_id=tf.reshape(items, [-1]))
        return items, found["titles"], found["scores"], found["known"], tf.reshape(rated["ratings"], [-1, k])

    specs = tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.bool)
    return tf.function(ask).get_concrete_function(*specs)  # type: ignore[no-any-return]


def _require_signature(saved: Path, loaded: Any, name: str) -> Signature:
    """Return the signature of a name; refuse the model if its inputs or outputs are wrong."""
    signatures = getattr(loaded, "signatures", {})
    if name not in signatures:
        raise ModelError(f"the SavedModel {saved} has no signature {name!r}", _DAMAGED)
    signature = signatures[name]
    for words, found, expected in (
        ("take", signature.structured_input_signature[1], _INPUTS[name]),
        ("give", signature.structured_outputs, _OUTPUTS[name]),
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


FORMAT = 1
SAVED_MODEL = "1"
CARD_FILE = "model_card.md"
INFO_FILE = "model.json"

_RETRAIN = "give a folder that `mtsearch retrain` wrote"
_RETRAIN_AGAIN = "write the folder again with `mtsearch retrain`"


class ModelInfo(BaseModel):
    """The content of `model.json`: the size of the model, and the version and time that made it.

    Attributes:
        users, items: numbers of users and items with training rows.
        catalogue: C, number of items that can be recommended.
        rating_range: lowest and highest predicted rating.
        created: ISO time at which the model was written.
        mtsearch: version that wrote it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    users: int = Field(ge=0)
    items: int = Field(ge=0)
    catalogue: int = Field(ge=1)
    rating_range: tuple[float, float]
    created: str = ""
    mtsearch: str = ""

    @field_validator("rating_range", mode="before")
    @classmethod
    def _make_tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


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

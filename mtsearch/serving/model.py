"""A trained model as NumPy sees it."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mtsearch.errors import ModelError
from mtsearch.machine import usable_cores
from mtsearch.serving.folder import SAVED_MODEL, Facts, read_facts
from mtsearch.serving.requests import check_ids, check_k
from mtsearch.signals import signals_deferred
from mtsearch.startup import start_tensorflow

Signature = Callable[..., dict[str, Any]]

_DAMAGED = "make the folder anew with `mtsearch retrain`"
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
        ratings: `[B]` float32, in stars, within the rating range of the training side.
        known_users, known_items: `[B]` bool, whether the model was trained on them.
    """

    ratings: NDArray[np.float32]
    known_users: NDArray[np.bool_]
    known_items: NDArray[np.bool_]


class Recommended(NamedTuple):
    """One item of a user's list."""

    item: str
    title: str
    score: float
    rating: float


@dataclass(frozen=True)
class Recommendations:
    """The best k items of B users, best first.

    Attributes:
        items, titles: `[B, k]` str; empty where fewer than k were left to recommend.
        scores: `[B, k]` float32, of retrieval, descending; -inf where there is no item.
        ratings: `[B, k]` float32, predicted, in stars; NaN where there is no item.
        known: `[B]` bool; a user that the model was not trained on gets what the average user would.
    """

    items: NDArray[np.object_]
    titles: NDArray[np.object_]
    scores: NDArray[np.float32]
    ratings: NDArray[np.float32]
    known: NDArray[np.bool_]

    def of(self, row: int) -> list[Recommended]:
        """The list of one user; shorter than k where fewer items were left."""
        columns = (self.items[row], self.titles[row], self.scores[row].tolist(), self.ratings[row].tolist())
        return [Recommended(*values) for values in zip(*columns, strict=True) if values[0]]


class ServedModel:
    """A model that `mtsearch retrain` wrote, in memory; its methods may be called from several threads.

    Attributes:
        facts: how large it is, and who made it.
    """

    def __init__(self, facts: Facts, loaded: Any, saved: Path) -> None:
        self.facts = facts
        self._loaded = loaded  # owns the variables: its signatures do not keep them alive
        self._predict = _checked(saved, loaded, "predict")
        self._recommend = _with_ratings(_checked(saved, loaded, "recommend"), self._predict)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a model folder.

        Raises:
            ModelError: it is missing, damaged, of a newer format, or no model folder.
        """
        folder = Path(folder)
        facts = read_facts(folder)
        saved = folder / SAVED_MODEL
        if not saved.is_dir():
            raise ModelError(f"{folder} is damaged: the SavedModel {saved} is missing", _DAMAGED)
        start_tensorflow()
        with signals_deferred():
            model = cls(facts, _loaded(saved), saved)
            model._try_out(saved)
        return model

    @signals_deferred()
    def recommend(self, user_ids: Sequence[str], k: int = 10, exclude_seen: bool = True) -> Recommendations:
        """The best items of each user.

        Args:
            user_ids: B ids of at most 256 characters.
            k: 1..C.
            exclude_seen: leave out what the user had rated in the training data.

        Raises:
            RequestError: an id or k is out of bounds.
        """
        check_k(k, self.facts.catalogue)
        check_ids(user_ids, "user")
        return self._recommended(user_ids, k, exclude_seen)

    @signals_deferred()
    def predict(self, users: Sequence[str], items: Sequence[str]) -> Predictions:
        """The rating that each user would give each item: B pairs.

        Raises:
            RequestError: an id is out of bounds.
            ValueError: there are not as many users as items.
        """
        if len(users) != len(items):
            raise ValueError(f"{len(users)} users and {len(items)} items")
        check_ids(users, "user")
        check_ids(items, "item")
        return self._predicted(_strings(users), _strings(items))

    def _recommended(self, user_ids: Sequence[str], k: int, exclude_seen: bool) -> Recommendations:
        import tensorflow as tf

        found = self._recommend(_strings(user_ids), tf.constant(k, tf.int32), tf.constant(exclude_seen))
        items, titles, scores, known, ratings = (values.numpy() for values in found)
        ratings[np.isneginf(scores)] = np.nan
        return Recommendations(_texts(items), _texts(titles), scores, ratings, known)

    def _predicted(self, users: Any, items: Any) -> Predictions:
        found = self._predict(user_id=users, item_id=items)
        return Predictions(*(found[name].numpy() for name in _OUTPUTS["predict"]))

    def _try_out(self, saved: Path) -> None:
        """Ask once: what is damaged inside shows here and not at a user's request, which is also the faster for it."""
        catalogue = self.facts.catalogue
        try:
            found = self._recommended(["", ""], catalogue, False)
        except Exception as error:
            raise ModelError(f"the SavedModel {saved} cannot be run: {_first_line(error)}", _DAMAGED) from error
        if found.items.shape != (2, catalogue) or "" in found.items:
            raise ModelError(f"the SavedModel {saved} does not fit its model.json", _DAMAGED)


def _loaded(saved: Path) -> Any:
    import tensorflow as tf

    # NOTE: TensorFlow takes these once per process; with its own, none could train in the same process afterwards.
    with contextlib.suppress(RuntimeError):  # it runs already
        tf.config.threading.set_intra_op_parallelism_threads(usable_cores())
        tf.config.threading.set_inter_op_parallelism_threads(1)
    try:
        # NOTE: on the CPU, also where there is a GPU: one user's ranking is over before a GPU was asked.
        with tf.device("/CPU:0"):
            return tf.saved_model.load(str(saved))
    except Exception as error:  # of a damaged file the loader raises almost anything
        raise ModelError(f"the SavedModel {saved} is damaged: {_first_line(error)}", _DAMAGED) from error


def _with_ratings(recommend: Signature, predict: Signature) -> Callable[..., Any]:
    """Both questions in one graph: what TensorFlow takes to begin a call is most of what one user costs."""
    import tensorflow as tf

    def ask(users: Any, k: Any, exclude_seen: Any) -> tuple[Any, ...]:
        found = recommend(user_id=users, k=k, exclude_seen=exclude_seen)
        items = found["item_ids"]
        rated = predict(user_id=tf.repeat(users, k), item_id=tf.reshape(items, [-1]))
        return items, found["titles"], found["scores"], found["known"], tf.reshape(rated["ratings"], [-1, k])

    specs = tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.bool)
    return tf.function(ask).get_concrete_function(*specs)  # type: ignore[no-any-return]


def _checked(saved: Path, loaded: Any, name: str) -> Signature:
    """The signature of that name, if it takes and gives what it should."""
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


def _strings(texts: Sequence[str]) -> Any:
    """`[B]` TensorFlow strings, without blanks around, which training takes from ids; B may be 0."""
    import tensorflow as tf

    return tf.constant([text.strip() for text in texts], tf.string, shape=[len(texts)])


def _texts(values: NDArray[np.object_]) -> NDArray[np.object_]:
    """TensorFlow's bytes as text."""
    decoded = np.empty(values.size, object)
    decoded[:] = [value.decode(errors="replace") for value in values.ravel()]
    return decoded.reshape(values.shape)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]

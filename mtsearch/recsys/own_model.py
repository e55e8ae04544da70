"""A model of the user's own: what it offers, and how the function that makes it is found, run and checked."""

import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

import tensorflow as tf
import tensorflow_recommenders as tfrs

from mtsearch.config import TrialConfig
from mtsearch.data.split import Split
from mtsearch.errors import DefinitionError, MtsearchError, OwnModelFailure
from mtsearch.study_file.mistakes import short
from mtsearch.study_file.model import ModelSection, find_source

METHODS = ("query_embeddings", "candidate_embeddings", "ratings")
_TRIED = 2
_MARK = "__mtsearch_fingerprint__"


class OwnModel(Protocol):
    """A `tfrs.models.Model` with two towers and a rating; users and items are int32 codes of `Split`.

    Codes are places in `split.user_ids` and `split.item_ids`: `tf.gather(split.user_ids.tolist(), users)` are the ids.
    `compute_loss` gets batches of training rows as `{"users": [B], "items": [B], "ratings": [B]}`, users ascending.
    """

    def query_embeddings(self, users: tf.Tensor) -> tf.Tensor:
        """`[B, E]` of users `[B]`; its dot product with an item's embedding orders the catalogue, higher first."""
        ...

    def candidate_embeddings(self, items: tf.Tensor) -> tf.Tensor:
        """`[B, E]` of items `[B]`."""
        ...

    def ratings(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """`[B]` float32, predicted ratings of pairs, in the units of the data."""
        ...

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The scalar to minimise of a batch; see `tfrs.models.Model`."""
        ...


class Factory:
    """The function that a study file names, and nothing else of the file, imported.

    Args:
        model: names it.
        fingerprint: of its source as the study has it; None: as it is.

    Attributes:
        source: where it is.

    Raises:
        DefinitionError: it is not found, cannot be imported or called, or its source is another one.
    """

    def __init__(self, model: ModelSection, fingerprint: str | None = None) -> None:
        self.source = find_source(model)
        if fingerprint not in (None, self.source.fingerprint):
            raise DefinitionError(f"{self.source.file} was changed while the study ran", "undo that, or run it again")
        self._name = f"model.factory = {model.factory!r}"
        module = self._imported(model.module)
        if not hasattr(module, model.function):
            raise DefinitionError(f"{self._name}: {self.source.file} has no {model.function!r}", "name what it has")
        self._function: Callable[[TrialConfig, Split], Any] = getattr(module, model.function)
        if not callable(self._function):
            raise DefinitionError(f"{self._name} is no function", "name one that returns a model")

    def make(self, config: TrialConfig, split: Split) -> tfrs.models.Model:
        """A model of `config`, built and checked on a few codes.

        Raises:
            DefinitionError: whatever the configuration, it returns something else.
            OwnModelFailure: it raises something, or a method returns another shape than `OwnModel` says.
        """
        with self.failures():
            model = self._function(config, split)
        if not isinstance(model, tfrs.models.Model):
            raise DefinitionError(f"{self._name} returned {type(model).__name__}", "return a tfrs.models.Model")
        for method in METHODS:
            if not callable(getattr(model, method, None)):
                problem = f"{self._name} returned a model without {method}()"
                raise DefinitionError(problem, "`mtsearch guide own-model` shows what it must have")
        self._try_out(model, split)
        return model

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Whatever the user's code raises within it ends the trial, in one line with the user's file and line."""
        try:
            yield
        except (MtsearchError, tf.errors.ResourceExhaustedError, MemoryError):
            raise
        except Exception as error:
            said = f"raised {type(error).__name__}: {_said(error)}{self._line_of(error)}"
            raise OwnModelFailure(f"{self._name} {said}") from error

    def _imported(self, name: str) -> ModuleType:
        """The module of the source, anew where another one, or an earlier text of it, has its name."""
        top = name.partition(".")[0]
        if (known := sys.modules.get(name)) and getattr(known, _MARK, None) != self.source.fingerprint:
            # Where the program around this imported it, the rest of its package stays: functions are pickled by name.
            theirs = not hasattr(known, _MARK) and Path(known.__file__ or "").resolve() == self.source.file.resolve()
            for each in [each for each in sys.modules if each == top or each.startswith(f"{top}.")]:
                if each == name or not theirs:
                    del sys.modules[each]
        if str(self.source.root) not in sys.path:
            sys.path.insert(0, str(self.source.root))  # for good: a factory may import what lies beside it
        try:
            module = import_module(name)
        except Exception as error:
            problem = f"{self._name}: importing it raised {type(error).__name__}: {error}{self._line_of(error)}"
            raise DefinitionError(problem, "mend it") from error
        if module.__file__ is None or Path(module.__file__).resolve() != self.source.file.resolve():
            problem = f"{self._name}: Python has another module {name!r} ({module.__file__})"
            raise DefinitionError(problem, "give yours another name")
        setattr(module, _MARK, self.source.fingerprint)
        return module

    def _line_of(self, error: Exception) -> str:
        """Where in the user's own file it was raised."""
        if isinstance(error, SyntaxError) and error.filename:
            return f" ({Path(error.filename).name}, line {error.lineno})"
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).resolve() == self.source.file.resolve()]
        # In a graph TensorFlow takes the frames away and writes them into the text.
        written = re.findall(rf'File "{re.escape(str(self.source.file))}", line (\d+)', str(error))
        line = own[-1].lineno if own else written[-1] if written else None
        return f" ({self.source.file.name}, line {line})" if line else ""

    def _try_out(self, model: tfrs.models.Model, split: Split) -> None:
        """Build it, and see that each method returns what it should, on two rows of the training side."""
        rows = split.train
        batch = {
            "users": tf.constant(rows.users[:_TRIED]),
            "items": tf.constant(rows.items[:_TRIED]),
            "ratings": tf.constant(rows.ratings[:_TRIED]),
        }
        users, items = batch["users"], batch["items"]
        size = int(users.shape[0])
        own = cast(OwnModel, model)
        with self.failures():
            queries = self._checked("query_embeddings", own.query_embeddings(users), size, None)
            self._checked("candidate_embeddings", own.candidate_embeddings(items), size, int(queries.shape[1]))
            self._checked("ratings", own.ratings(users, items), size)
            self._checked("compute_loss", own.compute_loss(batch))
        model.reset_metrics()

    def _checked(self, method: str, value: Any, *shape: int | None) -> tf.Tensor:
        expected = f"float32 [{', '.join('E' if size is None else str(size) for size in shape)}]"
        found = tf.convert_to_tensor(value)
        if found.dtype != tf.float32 or not found.shape.is_compatible_with(shape):
            got = f"{found.dtype.name} {found.shape.as_list()}"
            raise OwnModelFailure(f"{self._name}: {method}() of {_TRIED} rows returned {got}", f"return {expected}")
        return found


def _said(error: Exception) -> str:
    """Of the paragraphs that TensorFlow and Keras write around an error, what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines[:1] == ["in user code:"]:
        raised = [line.partition(": ")[2] for line in lines if line.startswith(f"{type(error).__name__}: ")]
        return short((raised or lines)[-1])
    if len(lines) > 1 and lines[0].startswith("Exception encountered"):
        return short(lines[1])
    return short(lines[0]) if lines else "nothing said"

"""Import the function of a study file that makes a custom model, call it, and check the model that it returns."""

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

from mtsearch.data.split import Split
from mtsearch.errors import CustomModelFailure, DefinitionError, MtsearchError
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.load import find_model_source
from mtsearch.study_file.sections import ModelSection
from mtsearch.text import shorten_middle

METHODS = ("query_embeddings", "candidate_embeddings", "ratings")
_TRIED = 2
_MARK = "__mtsearch_fingerprint__"


class CustomModel(Protocol):
    """A `tfrs.models.Model` with two towers and a rating; users and items are int32 codes of `Split`.

    Codes are places in `split.user_ids` and `split.item_ids`: `tf.gather(split.user_ids.tolist(), users)` are the ids.
    `compute_loss` gets batches of training rows as `{"users": [B], "items": [B], "ratings": [B]}`, users ascending.
    """

    def query_embeddings(self, users: tf.Tensor) -> tf.Tensor:
        """Return embeddings `[B, E]` of users `[B]`.

        The dot product with the embedding of an item orders the catalogue, higher first.
        """
        ...

    def candidate_embeddings(self, items: tf.Tensor) -> tf.Tensor:
        """Return embeddings `[B, E]` of items `[B]`."""
        ...

    def ratings(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Return the predicted ratings of pairs, `[B]` float32, in the units of the data."""
        ...

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return the scalar loss of a batch, which training minimises; see `tfrs.models.Model`."""
        ...


class ModelFactory:
    """The imported function that makes the custom models of a study.

    The study file is not imported: only the module that it names.

    Args:
        model: section of the study file that names the function.
        fingerprint: of its source when the study began; None: accept the present source.

    Attributes:
        source: file and fingerprint of the module.

    Raises:
        DefinitionError: the function is not found, cannot be imported or called, or its source was changed.
    """

    def __init__(self, model: ModelSection, fingerprint: str | None = None) -> None:
        self.source = find_model_source(model)
        if fingerprint not in (None, self.source.fingerprint):
            raise DefinitionError(
                f"{self.source.file} was changed while the study ran", "undo the change, or run the study again"
            )
        self._name = f"model.factory = {model.factory!r}"
        module = self._import_module(model.module)
        if not hasattr(module, model.function):
            raise DefinitionError(
                f"{self._name}: {self.source.file} has no {model.function!r}", "name a function of that file"
            )
        self._function: Callable[[TrialConfig, Split], Any] = getattr(module, model.function)
        if not callable(self._function):
            raise DefinitionError(f"{self._name} is not a function", "name a function that returns a model")

    def make(self, config: TrialConfig, split: Split) -> tfrs.models.Model:
        """Make a model of `config`, and check it on a few codes.

        Raises:
            DefinitionError: the function does not return a model of the right kind.
            CustomModelFailure: the function raises an error, or a method returns another shape than `CustomModel` says.
        """
        with self.failures():
            model = self._function(config, split)
        if not isinstance(model, tfrs.models.Model):
            raise DefinitionError(f"{self._name} returned {type(model).__name__}", "return a tfrs.models.Model")
        for method in METHODS:
            if not callable(getattr(model, method, None)):
                problem = f"{self._name} returned a model without {method}()"
                raise DefinitionError(problem, "`mtsearch guide own-model` shows the methods that a model needs")
        self._check_methods(model, split)
        return model

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn any error of the user's code inside the context into a failed trial that names the user's line."""
        try:
            yield
        except (MtsearchError, tf.errors.ResourceExhaustedError, MemoryError):
            raise
        except Exception as error:
            reason = f"raised {type(error).__name__}: {_first_sentence(error)}{self._describe_place(error)}"
            raise CustomModelFailure(f"{self._name} {reason}") from error

    def _import_module(self, name: str) -> ModuleType:
        """Import the module of the source, again if another module or an older text of it has its name."""
        top = name.partition(".")[0]
        if (known := sys.modules.get(name)) and getattr(known, _MARK, None) != self.source.fingerprint:
            # If the calling program imported the module, the rest of its package stays: functions are pickled by name.
            imported_by_caller = (
                not hasattr(known, _MARK) and Path(known.__file__ or "").resolve() == self.source.file.resolve()
            )
            for each in [each for each in sys.modules if each == top or each.startswith(f"{top}.")]:
                if each == name or not imported_by_caller:
                    del sys.modules[each]
        if str(self.source.root) not in sys.path:
            sys.path.insert(0, str(self.source.root))  # and never removed: the function may import its neighbours later
        try:
            module = import_module(name)
        except Exception as error:
            problem = f"{self._name}: importing it raised {type(error).__name__}: {error}{self._describe_place(error)}"
            raise DefinitionError(problem, "correct the file") from error
        if module.__file__ is None or Path(module.__file__).resolve() != self.source.file.resolve():
            problem = f"{self._name}: Python found another module {name!r} ({module.__file__})"
            raise DefinitionError(problem, "give your module another name")
        setattr(module, _MARK, self.source.fingerprint)
        return module

    def _describe_place(self, error: Exception) -> str:
        """Return the line of the user's file in which an error was raised, in brackets; empty if it is unknown."""
        if isinstance(error, SyntaxError) and error.filename:
            return f" ({Path(error.filename).name}, line {error.lineno})"
        frames = traceback.extract_tb(error.__traceback__)
        custom = [frame for frame in frames if Path(frame.filename).resolve() == self.source.file.resolve()]
        # For errors inside a graph, TensorFlow removes the frames and writes them into the message.
        written = re.findall(rf'File "{re.escape(str(self.source.file))}", line (\d+)', str(error))
        line = custom[-1].lineno if custom else written[-1] if written else None
        return f" ({self.source.file.name}, line {line})" if line else ""

    def _check_methods(self, model: tfrs.models.Model, split: Split) -> None:
        """Build a model, and check on two training rows that each of its methods returns the right type and shape."""
        rows = split.train
        batch = {
            "users": tf.constant(rows.users[:_TRIED]),
            "items": tf.constant(rows.items[:_TRIED]),
            "ratings": tf.constant(rows.ratings[:_TRIED]),
        }
        users, items = batch["users"], batch["items"]
        size = int(users.shape[0])
        custom = cast(CustomModel, model)
        with self.failures():
            queries = self._check_output("query_embeddings", custom.query_embeddings(users), size, None)
            self._check_output("candidate_embeddings", custom.candidate_embeddings(items), size, int(queries.shape[1]))
            self._check_output("ratings", custom.ratings(users, items), size)
            self._check_output("compute_loss", custom.compute_loss(batch))
        model.reset_metrics()

    def _check_output(self, method: str, value: Any, *shape: int | None) -> tf.Tensor:
        """Return the output of a method as a tensor; refuse another type or shape than expected."""
        expected = f"float32 [{', '.join('E' if size is None else str(size) for size in shape)}]"
        found = tf.convert_to_tensor(value)
        if found.dtype != tf.float32 or not found.shape.is_compatible_with(shape):
            got = f"{found.dtype.name} {found.shape.as_list()}"
            raise CustomModelFailure(f"{self._name}: {method}() of {_TRIED} rows returned {got}", f"return {expected}")
        return found


def _first_sentence(error: Exception) -> str:
    """Return the essential line of the long messages of TensorFlow and Keras, shortened."""
    # Graph errors end with the user's own error; errors of a layer have a line of Keras before it.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines[:1] == ["in user code:"]:
        raised = [line.partition(": ")[2] for line in lines if line.startswith(f"{type(error).__name__}: ")]
        return shorten_middle((raised or lines)[-1])
    if len(lines) > 1 and lines[0].startswith("Exception encountered"):
        return shorten_middle(lines[1])
    return shorten_middle(lines[0]) if lines else "no message"

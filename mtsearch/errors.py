"""The error tree: whatever a user can run into is one of these, said in one line with its remedy.

MtsearchError                   exit status 1
├── DefinitionError             a study file, a --set or a shipped name that cannot be used
├── PickError                   a point of a front that cannot be chosen as asked
├── ExportError                 the file of an exported configuration
├── DataError                   the ratings
│   ├── SourceUnavailable       cannot be reached, or is not there
│   └── MalformedData           is there, and does not say what it should (file, row, column, value)
├── StorageError                the database
│   ├── StudyNotFound           no such study in it
│   └── StudyMismatch           a study of that name exists under another definition or other data
├── ModelError                  a folder with a trained model
├── RequestError                what a trained model is asked: an id, a number, a file of them
├── MachineError                the machine or its packages (a missing extra, an unwritable folder)
└── TrialFailure                ends one trial and leaves the study running
    ├── NonFiniteLoss           at this epoch and step
    ├── NonFiniteMetric         at this epoch
    ├── OutOfMemory             the model does not fit
    └── OwnModelFailure         a model of the user's own raised something, or returned what it must not
"""

from collections.abc import Iterable
from typing import Self


class MtsearchError(Exception):
    """What went wrong, where, and what to do about it.

    Args:
        problem: the cause in one clause, naming the place (file, key, row, URL without its password).
        remedy: what to do next, as an imperative clause; empty where the problem says it all.
    """

    exit_status = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        line = f"{self.problem}; {self.remedy}" if self.remedy else self.problem
        return " ".join(line.split())


class DefinitionError(MtsearchError):
    """A study definition that cannot be used.

    Attributes:
        further: other mistakes of the same file, a line each; they follow the first in the text.
    """

    further: tuple[str, ...] = ()

    @classmethod
    def of_several(cls, problems: Iterable[str]) -> Self:
        """One error for all mistakes of a file, of which there is at least one."""
        first, *others = (" ".join(problem.split()) for problem in problems)
        error = cls(first)
        error.further = tuple(others)
        return error

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *self.further])


class PickError(MtsearchError):
    """A pick that cannot be read, or that no trial is as it asks."""


class ExportError(MtsearchError):
    """The file of an exported configuration that cannot be used, or put where another file is."""


class DataError(MtsearchError):
    """Ratings that cannot be used."""


class SourceUnavailable(DataError):
    """A source that cannot be reached or is not there."""


class MalformedData(DataError):
    """A source that does not say what it should."""


class StorageError(MtsearchError):
    """A storage that cannot be reached, read or written."""


class StudyNotFound(StorageError):
    """No such study in the storage."""


class StudyMismatch(StorageError):
    """A study of that name exists under another definition or other data."""


class ModelError(MtsearchError):
    """A folder with a trained model that cannot be used."""


class RequestError(MtsearchError):
    """Something that a trained model cannot be asked."""


class MachineError(MtsearchError):
    """The machine or its packages lack something."""


class TrialFailure(MtsearchError):
    """Ends one trial; it counts, and the study goes on."""


class NonFiniteLoss(TrialFailure):
    """The training loss became infinite or NaN.

    Args:
        epoch: 1-based.
        step: 1-based within the epoch.
    """

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"non-finite loss at epoch {epoch}, step {step}", "lower learning_rate")
        self.epoch, self.step = epoch, step

    def __reduce__(self) -> tuple[type["NonFiniteLoss"], tuple[int, int]]:
        return type(self), (self.epoch, self.step)


class NonFiniteMetric(TrialFailure):
    """The model's predictions became infinite or NaN."""


class OutOfMemory(TrialFailure):
    """The model does not fit into the device's memory."""


class OwnModelFailure(TrialFailure):
    """A model of the user's own raised something, or returned what it must not."""

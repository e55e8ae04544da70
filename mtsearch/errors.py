"""The tree of errors that a user can meet; each message names the problem and its remedy in one line.

MtsearchError                   exit status 1
├── DefinitionError             a study file, a --set or a shipped name that cannot be used
├── PickError                   an invalid rule for selecting a trial, or one that selects none
├── ExportError                 a file of an exported configuration that cannot be read or written
├── DataError                   ratings that cannot be used
│   ├── SourceUnavailable       the source does not exist or cannot be reached
│   └── MalformedData           the source has wrong content (file, row, column, value)
├── StorageError                a database of studies that cannot be used
│   ├── StudyNotFound           the database has no study of this name
│   ├── StudyMismatch           a study of this name has another definition or other data
│   └── StudyInUse              another process runs the study
├── ModelError                  a folder with a trained model that cannot be used
├── RequestError                a request that a trained model cannot answer: an id, a number, a file of them
├── MachineError                the machine or its packages (a missing extra, a folder without write permission)
└── TrialFailure                ends one trial; the study goes on
    ├── NonFiniteLoss           the loss became infinite or NaN (epoch, step)
    ├── NonFiniteMetric         a metric became infinite or NaN (epoch)
    ├── OutOfMemory             the model does not fit into memory
    └── CustomModelFailure      a custom model raised an error or returned a wrong value
"""

from collections.abc import Iterable
from typing import Self


class MtsearchError(Exception):
    """An error for the user: the problem with its place, and the remedy.

    Args:
        problem: the cause in one clause, naming the place (file, key, row, URL without its password).
        remedy: what to do next, as an imperative clause; empty if the problem alone makes it clear.
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
        further: other mistakes of the same file, one line each; they follow the first one in the text.
    """

    further: tuple[str, ...] = ()

    @classmethod
    def of_several(cls, problems: Iterable[str]) -> Self:
        """Return one error for all mistakes of a file, of which there must be at least one."""
        first, *others = (" ".join(problem.split()) for problem in problems)
        error = cls(first)
        error.further = tuple(others)
        return error

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *self.further])


class PickError(MtsearchError):
    """An invalid rule for selecting a trial, or a rule that no trial meets."""


class ExportError(MtsearchError):
    """A file of an exported configuration that cannot be read, or cannot be written over another file."""


class DataError(MtsearchError):
    """Ratings that cannot be used."""


class SourceUnavailable(DataError):
    """A data source that does not exist or cannot be reached."""


class MalformedData(DataError):
    """A data source with wrong content."""


class StorageError(MtsearchError):
    """A database of studies that cannot be reached, read or written."""


class StudyNotFound(StorageError):
    """A study that the storage does not have."""


class StudyMismatch(StorageError):
    """A stored study of the same name that has another definition or other data."""


class StudyInUse(StorageError):
    """A study that another process runs."""


class ModelError(MtsearchError):
    """A folder with a trained model that cannot be used."""


class RequestError(MtsearchError):
    """A request that a trained model cannot answer."""


class MachineError(MtsearchError):
    """A machine or Python environment that lacks something which mtsearch needs."""


class TrialFailure(MtsearchError):
    """An error that ends one trial; the trial counts as failed, and the study goes on."""


class NonFiniteLoss(TrialFailure):
    """A training loss that became infinite or NaN.

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
    """Predictions of the model that became infinite or NaN."""


class OutOfMemory(TrialFailure):
    """A model that does not fit into the device's memory."""


class CustomModelFailure(TrialFailure):
    """A custom model that raised an error or returned a wrong value."""

"""`StudyDefinition`: a study file, read, checked and immutable."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from mtsearch.errors import DefinitionError
from mtsearch.objectives import METRICS
from mtsearch.study_file import starting_point
from mtsearch.study_file.checks import Tables, mistakes
from mtsearch.study_file.data import DataSection, Seed, SplitSection
from mtsearch.study_file.mistakes import TOGETHER, Path, all_mistakes, nearest, short, shown, spoilt_paths, without
from mtsearch.study_file.model import ModelSection
from mtsearch.study_file.parameters import NOT_STRICT, Choices, Number, Parameter, Range, Scalar, Section
from mtsearch.study_file.pruner import Pruner
from mtsearch.study_file.reading import read
from mtsearch.study_file.sampler import Sampler
from mtsearch.study_file.searchable import FIELDS

__all__ = ["DEFAULT", "Choices", "ConstraintsSection", "DataSection", "ModelSection", "Parameter", "Pruner", "Range",
           "Sampler", "Scalar", "SplitSection", "StudyDefinition", "StudySection"]  # fmt: skip

DEFAULT = "ml-100k"
"""The shipped definition that commands take where none is named."""


class StudySection(Section):
    """What the study is called and what it minds."""

    name: str = Field(
        min_length=1, max_length=200, description="Name in the storage; another name makes another study."
    )
    seed: Seed = Field(default=42, description="Seed of the proposals, and of every trial.")
    objectives: tuple[str, str] = Field(
        default=("rmse", "top_100"), strict=False, description="Two metrics, the first on the horizontal axis."
    )
    repeats: int = Field(default=1, ge=1, le=1000, description="Seeds of a trial; its values are their means.")
    sampler: Sampler = Field(default=Sampler(), description="How the next configuration is proposed.")
    pruner: Pruner = Field(default=Pruner(), description="Which trials are stopped before their last epoch.")

    @field_validator("name", mode="before")
    @classmethod
    def _printable(cls, name: object) -> object:
        # Controls, lone surrogates, line and paragraph separators: no terminal, page or database takes them all.
        if isinstance(name, str) and any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in name):
            raise ValueError(f"{shown(name)} holds what cannot be printed: use letters, digits, spaces and signs")
        if isinstance(name, str) and name != name.strip():
            raise ValueError(f"{shown(name)} begins or ends with a blank: leave it out")
        return name

    @field_validator("objectives", mode="before")
    @classmethod
    def _two(cls, keys: object) -> object:
        if isinstance(keys, Sequence) and not isinstance(keys, str) and len(keys) != 2:
            raise ValueError(f"name exactly two metrics, not {len(keys)}")
        return keys

    @field_validator("objectives")
    @classmethod
    def _known_metrics(cls, keys: tuple[str, str]) -> tuple[str, str]:
        for key in keys:
            if key not in METRICS:
                raise ValueError(f"unknown metric {key!r}{nearest(key, METRICS)}")
        if keys[0] == keys[1]:
            raise ValueError(f"both are {keys[0]!r}: name two different metrics")
        return keys


class ConstraintsSection(Section):
    """What a trial may take; one that takes more is kept, and is on no front."""

    max_parameters: int | None = Field(default=None, gt=0, description="Numbers that the model learns.")
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds of training with one seed, without its evaluation.",
    )


def _known_parameter(name: str) -> str:
    if name not in FIELDS:
        raise ValueError(f"unknown parameter{nearest(name, FIELDS)}")
    return name


def _known_metric(key: str) -> str:
    if key not in METRICS:
        raise ValueError(f"unknown metric{nearest(key, METRICS)}")
    return key


ParameterName = Annotated[str, AfterValidator(_known_parameter)]
MetricName = Annotated[str, AfterValidator(_known_metric)]


class StudyDefinition(Section):
    """A study file, resolved: what is searched, what is fixed, on which data and split, in which order.

    `space` and `trials` may both be there (the listed trials run first), and one of them must be. `published` are
    values that someone else reported for the listed trials, in their order, to be shown beside what is measured.
    """

    study: StudySection
    data: DataSection = DataSection()
    split: SplitSection = SplitSection()
    constraints: ConstraintsSection = ConstraintsSection()
    model: ModelSection | None = None
    space: dict[ParameterName, Parameter] = Field(default_factory=dict)
    fixed: dict[ParameterName, Scalar] = Field(default_factory=dict)
    trials: Annotated[tuple[dict[ParameterName, Scalar], ...], NOT_STRICT] = ()
    published: Annotated[tuple[dict[MetricName, Number], ...], NOT_STRICT] = ()

    @model_validator(mode="before")
    @classmethod
    def _integers_of_toml(cls, raw: object) -> object:
        """No integer beyond the 64 bits of TOML: beyond, comparing and printing may fail."""
        todo: list[tuple[str, object]] = [("", raw)]
        while todo:
            place, value = todo.pop()
            if isinstance(value, Mapping):
                todo += [(f"{place}.{key}", inner) for key, inner in value.items()]
            elif isinstance(value, list | tuple):
                todo += [(f"{place}.{number}", inner) for number, inner in enumerate(value)]
            elif isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ValueError(f"{short(place[1:])} is an integer of more than 64 bits")
        return raw

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        tables = Tables(
            space=self.space,
            fixed=self.fixed,
            trials=self.trials,
            published=self.published,
            validates_on_test=self.split.validation == "test",
            spoilt=info.context or frozenset(),
        )
        conflicts = [self.study.pruner.conflict_with(self.study.sampler.kind), self._conflict_with_drawn_users()]
        if found := [*filter(None, conflicts), *mistakes(tables)]:
            raise PydanticCustomError(TOGETHER, "see there", {TOGETHER: found})
        return self

    def _conflict_with_drawn_users(self) -> str:
        """Why users cannot be drawn to validate on; empty where they can."""
        for key in self.study.objectives:
            if self.split.validation_users and METRICS[key].per == "catalogue":
                return f"study.objectives: {key} of some users says nothing of all: drop split.validation_users"
        return ""

    @classmethod
    def load(cls, name: str, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None) -> Self:
        """Read a study file.

        Args:
            name: the path of a TOML file, or the name of a shipped definition.
            overrides: `table.key=value`, or several, the value written as in TOML; applied before anything is checked.
            values: by `table.key`, as they are; applied after the overrides.

        Raises:
            DefinitionError: it cannot be found, read or used; the message names file and key.
        """
        path, raw = read(name, [overrides] if isinstance(overrides, str) else overrides, values or {})
        return cls.from_mapping(raw, origin=f"{path} with --set" if overrides else str(path))

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any], origin: str = "definition") -> Self:
        """Check what a TOML reader returned; `origin` is named in errors.

        Raises:
            DefinitionError: all mistakes, a line each.
        """
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            found = cls._mistakes(error, raw)
            raise DefinitionError.of_several(f"{origin}: {line}" for line in found) from None

    @classmethod
    def _mistakes(cls, error: ValidationError, raw: Mapping[str, Any]) -> list[str]:
        """All mistakes: what is wrong is taken out, again and again, until nothing is that it hid.

        A table whose values are wrong one by one is not looked at as a whole, nor are tables beside each other.
        """
        found: list[str] = []
        paths: list[Path] = []
        while True:
            found += all_mistakes(error, raw, cls, paths)
            further = [path for path in spoilt_paths(error, raw) if path not in paths]
            paths += further
            if not further or () in paths:
                return found
            try:
                cls.model_validate(without(raw, paths), context=frozenset(path[:2] for path in paths))
            except ValidationError as next_error:
                error = next_error
            else:
                return found

    def starting_point(self) -> dict[str, Scalar]:
        """Where the study starts; see `mtsearch.study_file.starting_point`. Empty where there is no [space]."""
        return starting_point.starting_point(self.space)

    def unit_weights(self) -> dict[str, Scalar] | None:
        """The starting point with both losses weighed by 1, where the space has that."""
        return starting_point.unit_weights(self.space, self.fixed)

    def resolved(self) -> dict[str, Any]:
        """Plain values, defaults written out; equal definitions give equal mappings."""
        return self.model_dump(mode="json", exclude_none=True)

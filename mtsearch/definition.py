"""`StudyDefinition`: a study file, read, checked and immutable."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from mtsearch.config import TrialConfig
from mtsearch.definition_errors import first_config_error, first_error, nearest, short, shown
from mtsearch.definition_file import read
from mtsearch.errors import DefinitionError
from mtsearch.objectives import METRICS
from mtsearch.parameters import NOT_STRICT, Choices, Number, Parameter, Range, Scalar, Section, make_parameter

__all__ = ["DEFAULT", "Choices", "DataSection", "Parameter", "Range", "Sampler", "Scalar", "SplitSection",
           "StudyDefinition", "StudySection"]  # fmt: skip

DEFAULT = "ml-100k"
"""The shipped definition that commands take where none is named."""

Share = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Sampler(Section):
    """How the next configuration is proposed."""

    kind: Literal["tpe", "random"] = "tpe"


class StudySection(Section):
    """What the study is called and what it minds."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    seed: Seed = 42
    objectives: Annotated[tuple[str, str], NOT_STRICT] = ("rmse", "top_100")
    repeats: Annotated[int, Field(ge=1, le=1000)] = 1
    sampler: Sampler = Sampler()

    @field_validator("name", mode="before")
    @classmethod
    def _printable(cls, name: object) -> object:
        # Controls, lone surrogates, line and paragraph separators: no terminal, page or database takes them all.
        if isinstance(name, str) and any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in name):
            raise ValueError(f"{shown(name)} holds what cannot be printed: use letters, digits, spaces and signs")
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


class DataSection(Section):
    """Where the ratings come from: a known name or a path."""

    source: Annotated[str, Field(min_length=1)] = "movielens/100k"


class SplitSection(Section):
    """Which rows are held out: shares of all rows (test) and of the rest (validation)."""

    method: Literal["random"] = "random"
    test: Share = 0.2
    validation: Share | Literal["test"] = 0.1
    seed: Seed = 42


class StudyDefinition(Section):
    """A study file, resolved: what is searched, what is fixed, on which data and split, in which order.

    `space` and `trials` may both be there (the listed trials run first), and one of them must be. `published` are
    values that someone else reported for the listed trials, in their order, to be shown beside what is measured.
    """

    study: StudySection
    data: DataSection = DataSection()
    split: SplitSection = SplitSection()
    space: dict[str, Parameter] = Field(default_factory=dict)
    fixed: dict[str, Scalar] = Field(default_factory=dict)
    trials: Annotated[tuple[dict[str, Scalar], ...], NOT_STRICT] = ()
    published: Annotated[tuple[dict[str, Number], ...], NOT_STRICT] = ()

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

    @field_validator("space", mode="before")
    @classmethod
    def _tell_range_from_choices(cls, space: object) -> object:
        if not isinstance(space, Mapping):
            return space
        return {name: make_parameter(name, value) for name, value in space.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.space and not self.trials:
            raise ValueError("neither [space] nor [[trials]]: name what to search or what to run")
        if self.space and self.split.validation == "test":
            raise ValueError(
                'split.validation = "test" would choose on the test set: only a definition without [space]'
            )
        for name in [*self.space, *self.fixed, *(name for trial in self.trials for name in trial)]:
            if name not in TrialConfig.model_fields:
                raise ValueError(f"unknown parameter {name!r}{nearest(name, TrialConfig.model_fields)}")
        for name in self.space.keys() & self.fixed.keys():
            raise ValueError(f"{name!r} is both in [space] and in [fixed]: drop one")
        self._check_space()
        self._check_listed()
        self._check_published()
        self._check_values()
        return self

    def _check_space(self) -> None:
        if "seed" in self.space:
            raise ValueError("space.seed: a searched seed selects a lucky one; use [study] repeats")
        for name, parameter in self.space.items():
            step = parameter.step if isinstance(parameter, Range) else None
            if isinstance(step, float) and isinstance(_default(name), int):
                raise ValueError(f"space.{name}: step = {step}: {name} is a whole number, so its step must be one")
        if self.space and self._can_be_zero("rating_weight") and self._can_be_zero("retrieval_weight"):
            raise ValueError("rating_weight and retrieval_weight can both be 0, and nothing is learnt then: raise one")

    def _can_be_zero(self, name: str) -> bool:
        return 0 in self.space[name] if name in self.space else self.fixed.get(name, _default(name)) == 0

    def _check_published(self) -> None:
        if self.published and len(self.published) != len(self.trials):
            raise ValueError(f"[[published]] has {len(self.published)} entries for {len(self.trials)} [[trials]]")
        for number, entry in enumerate(self.published, start=1):
            if entry.keys() != self.published[0].keys():
                raise ValueError(f"[[published]] number {number}: its metrics are not those of number 1: name the same")
        for name in (name for entry in self.published for name in entry):
            if name not in METRICS:
                raise ValueError(f"[[published]]: unknown metric {name!r}{nearest(name, METRICS)}")

    def _check_listed(self) -> None:
        for number, trial in enumerate(self.trials, start=1):
            for name, value in trial.items():
                place = f"[[trials]] number {number}: {name}"
                if name in self.space and value not in self.space[name]:
                    raise ValueError(f"{place} = {shown(value)} is outside its [space] or between its steps")
                if self.space and name not in self.space:
                    raise ValueError(f"{place} is not in [space]: move it to [fixed]")

    def _check_values(self) -> None:
        """Every value that can occur makes a valid configuration."""
        middle = {name: parameter.extremes()[-1] for name, parameter in self.space.items()}
        base = {**self.fixed, **middle}
        candidates = [({name: value}, f"space.{name}") for name, p in self.space.items() for value in p.extremes()]
        candidates += [(dict(trial), f"[[trials]] number {n}") for n, trial in enumerate(self.trials, start=1)]
        for values, place in candidates or [({}, "[fixed]")]:
            try:
                TrialConfig(**{**base, **values})  # type: ignore[arg-type] # pydantic is the judge of the types
            except ValidationError as error:
                raise ValueError(first_config_error(error, place, self.fixed)) from None

    @classmethod
    def load(cls, name: str, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None) -> Self:
        """Read a study file.

        Args:
            name: the path of a TOML file, or the name of a shipped definition.
            overrides: `table.key=value` each, the value written as in TOML; applied before anything is checked.
            values: by `table.key`, as they are; applied after the overrides.

        Raises:
            DefinitionError: it cannot be found, read or used; the message names file and key.
        """
        path, raw = read(name, overrides, values or {})
        return cls.from_mapping(raw, origin=str(path))

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any], origin: str = "definition") -> Self:
        """Check what a TOML reader returned; `origin` is named in errors.

        Raises:
            DefinitionError: the first mistake, in one line.
        """
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise DefinitionError(f"{origin}: {first_error(error, raw, cls)}") from None

    def resolved(self) -> dict[str, Any]:
        """Plain values, defaults written out; equal definitions give equal mappings."""
        return self.model_dump(mode="json", exclude_none=True)


def _default(name: str) -> Scalar:
    default: Scalar = TrialConfig.model_fields[name].default
    return default

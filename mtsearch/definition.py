"""`StudyDefinition`: a study file, read, checked and immutable."""

import difflib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mtsearch.config import TrialConfig
from mtsearch.errors import DefinitionError
from mtsearch.objectives import METRICS

Share = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Number = Annotated[int | float, Field(allow_inf_nan=False)]
Scalar = bool | int | float | str


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sampler(_Section):
    """How the next configuration is proposed."""

    kind: Literal["tpe", "random"] = "tpe"


class StudySection(_Section):
    """What the study is called and what it minds."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    seed: Seed = 42
    objectives: tuple[str, str] = ("rmse", "top_100")
    repeats: Annotated[int, Field(ge=1, le=1000)] = 1
    sampler: Sampler = Sampler()

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
                raise ValueError(f"unknown metric {key!r}{_nearest(key, METRICS)}")
        if keys[0] == keys[1]:
            raise ValueError(f"both are {keys[0]!r}: name two different metrics")
        return keys


class DataSection(_Section):
    """Where the ratings come from: a known name or a path."""

    source: Annotated[str, Field(min_length=1)] = "movielens/100k"


class SplitSection(_Section):
    """Which rows are held out: shares of all rows (test) and of the rest (validation)."""

    method: Literal["random"] = "random"
    test: Share = 0.2
    validation: Share | Literal["test"] = 0.1
    seed: Seed = 42


class Range(_Section):
    """An interval, both ends included; whole numbers where the parameter is one."""

    low: Number
    high: Number
    log: bool = False
    step: Annotated[Number, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low = {self.low} is above high = {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low} has no logarithm: make it positive or drop log")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other: drop one")
        return self

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def extremes(self) -> tuple[Scalar, ...]:
        """The values that must be valid for all others to be."""
        return self.low, self.high


class Choices(_Section):
    """A few values; numbers have no order among them."""

    choices: Annotated[tuple[Scalar, ...], Field(min_length=1)]

    @field_validator("choices")
    @classmethod
    def _different(cls, values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        if len({json.dumps(value) for value in values}) < len(values):
            raise ValueError("a choice is named twice")
        return values

    def __contains__(self, value: object) -> bool:
        return value in self.choices

    def extremes(self) -> tuple[Scalar, ...]:
        """The values that must be valid for all others to be."""
        return self.choices


Parameter = Range | Choices


class StudyDefinition(_Section):
    """A study file, resolved: what is searched, what is fixed, on which data and split, in which order.

    `space` and `trials` may both be there (the listed trials run first), and one of them must be. `published` are
    values that someone else reported for the listed trials, in their order, to be shown beside what is measured.
    """

    study: StudySection
    data: DataSection = DataSection()
    split: SplitSection = SplitSection()
    space: dict[str, Parameter] = {}
    fixed: dict[str, Scalar] = {}
    trials: tuple[dict[str, Scalar], ...] = ()
    published: tuple[dict[str, Number], ...] = ()

    @field_validator("space", mode="before")
    @classmethod
    def _tell_range_from_choices(cls, space: object) -> object:
        # NOTE: without this pydantic tries both forms and reports the mistakes of either.
        if not isinstance(space, Mapping):
            return space
        return {name: _parameter(name, value) for name, value in space.items()}

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
                raise ValueError(f"unknown parameter {name!r}{_nearest(name, TrialConfig.model_fields)}")
        for name in self.space.keys() & self.fixed.keys():
            raise ValueError(f"{name!r} is both in [space] and in [fixed]: drop one")
        self._check_listed()
        self._check_published()
        self._check_values()
        return self

    def _check_published(self) -> None:
        if self.published and len(self.published) != len(self.trials):
            raise ValueError(f"[[published]] has {len(self.published)} entries for {len(self.trials)} [[trials]]")
        for name in (name for entry in self.published for name in entry):
            if name not in METRICS:
                raise ValueError(f"[[published]]: unknown metric {name!r}{_nearest(name, METRICS)}")

    def _check_listed(self) -> None:
        for number, trial in enumerate(self.trials, start=1):
            for name, value in trial.items():
                if name in self.space and value not in self.space[name]:
                    raise ValueError(f"[[trials]] number {number}: {name} = {value} is outside its [space]")
                if self.space and name not in self.space:
                    raise ValueError(f"[[trials]] number {number}: {name} is not in [space]: move it to [fixed]")

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
                raise ValueError(_first_config_error(error, place, self.fixed)) from None

    @classmethod
    def load(cls, name: str, overrides: Sequence[str] = ()) -> Self:
        """Read a study file.

        Args:
            name: the path of a TOML file, or the name of a shipped definition.
            overrides: `table.key=value` each, the value written as in TOML; applied before anything is checked.

        Raises:
            DefinitionError: it cannot be found, read or used; the message names file and key.
        """
        path, text = _read(name)
        try:
            raw = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise DefinitionError(f"{path}: not TOML: {error}", "mend that line") from None
        for override in overrides:
            _override(raw, override)
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
            raise DefinitionError(f"{origin}: {_first_error(error, raw)}") from None

    def resolved(self) -> dict[str, Any]:
        """Plain values, defaults written out; equal definitions give equal mappings."""
        return self.model_dump(mode="json", exclude_none=True)


def shipped() -> dict[str, Path]:
    """The definitions that come with mtsearch, by name."""
    packaged = Path(str(files("mtsearch"))) / "studies"
    # NOTE: an editable install has no mtsearch/studies; the checkout's studies/ is then the one copy.
    folder = packaged if packaged.is_dir() else Path(str(files("mtsearch"))).parent / "studies"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _read(name: str) -> tuple[Path, str]:
    known = shipped()
    path = Path(name)
    if not path.is_file():
        if path.suffix == ".toml" or path.exists():
            raise DefinitionError(f"{name}: no such file", f"shipped definitions: {', '.join(known)}")
        if name not in known:
            raise DefinitionError(
                f"unknown definition {name!r}{_nearest(name, known)}",
                f"give the path of a .toml file or one of: {', '.join(known)}",
            )
        path = known[name]
    try:
        return path, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path}: cannot be read: {error}", "a study file is UTF-8 text") from None


def _override(raw: dict[str, Any], override: str) -> None:
    """Apply one `table.key=value` in place."""
    keys, separator, value = override.partition("=")
    path = keys.strip().split(".")
    if not separator or len(path) < 2 or not all(path):
        raise DefinitionError(f"--set {override}: not of the form table.key=value", "for example --set fixed.epochs=5")
    table: Any = raw
    for key in path[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise DefinitionError(f"--set {override}: {key!r} is not a table", "name a table and a key in it")
    table[path[-1]] = _toml_value(value.strip())


def _toml_value(text: str) -> Any:
    """A TOML value; what is none is a string, so that paths need no quotes twice over."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _parameter(name: str, value: object) -> Parameter:
    if not isinstance(value, Mapping):
        raise ValueError(
            f"space.{name} = {value!r} is no range: write {{low = ..., high = ...}} or {{choices = [...]}}"
        )
    form: type[Parameter] = Choices if "choices" in value else Range
    try:
        return form.model_validate(value)
    except ValidationError as error:
        raise ValueError(f"space.{name}: {_first_error(error, value, form)}") from None


def _nearest(name: str, known: Mapping[str, object]) -> str:
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else f" (known: {', '.join(known)})"


def _first_config_error(error: ValidationError, place: str, fixed: Mapping[str, Scalar]) -> str:
    first = error.errors()[0]
    if first["loc"]:
        name = str(first["loc"][0])
        place = f"fixed.{name}" if name in fixed else place
        return f"{place}: {name} = {first['input']!r}: {_plain(first)}"
    return f"{place}: {_plain(first)}"


def _first_error(error: ValidationError, raw: Mapping[str, Any], model: type[BaseModel] = StudyDefinition) -> str:
    first = error.errors()[0]
    if first["type"] == "extra_forbidden":
        *table, key = first["loc"]
        known = _fields_at(model, table)
        return f"unknown key {'.'.join(map(str, first['loc']))!r}{_nearest(str(key), known)}"
    place = ".".join(str(part) for part in _visible(first["loc"], raw))
    if first["type"] == "missing":
        return f"{place} is missing: add it"
    message = _plain(first)
    return message if not place or message.startswith(place) else f"{place}: {message}"


def _visible(location: Sequence[str | int], raw: Any) -> Iterator[str | int]:
    """The parts of a pydantic location that the file has; members of unions are not among them."""
    for depth, part in enumerate(location):
        inside = isinstance(raw, Mapping) and part in raw
        inside |= isinstance(raw, Sequence) and isinstance(part, int) and part < len(raw)
        if inside:
            raw = raw[part]
        elif depth < len(location) - 1 or not isinstance(raw, Mapping):
            continue
        yield part


def _fields_at(model: type[BaseModel], table: Sequence[str | int]) -> Mapping[str, object]:
    for part in table:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return {}
        model = annotation
    return model.model_fields


def _plain(error: Any) -> str:
    """Pydantic's message without its preambles, in the file's words."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":
        return message
    shown = error["input"]
    if isinstance(shown, float) and not math.isfinite(shown):
        return f"{shown} is not a finite number"
    if error["type"] == "too_short":
        return "is empty: name at least one"
    return f"{message[0].lower()}{message[1:]}, not {shown!r}" if len(repr(shown)) < 80 else message

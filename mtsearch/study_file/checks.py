"""What the tables of a study file must be together, each of them being right by itself."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from pydantic import ValidationError

from mtsearch.study_file import loss_ratio
from mtsearch.study_file.mistakes import config_error, shown
from mtsearch.study_file.parameters import Choices, Parameter, Scalar
from mtsearch.study_file.searchable import check_value, config_of, default_of, kind_of

MOST_COMBINATIONS = 10_000
"""Of two extremes that are tried, 0.2 s; a dozen ranges and a few choices make fewer than 1,000."""


@dataclass(frozen=True)
class Tables:
    """The tables that depend on each other.

    Attributes:
        space, fixed, trials, published: as in `StudyDefinition`.
        validates_on_test: split.validation = "test".
        spoilt: first two keys of what is left out here for a mistake of its own.
    """

    space: Mapping[str, Parameter]
    fixed: Mapping[str, Scalar]
    trials: Sequence[Mapping[str, Scalar]]
    published: Sequence[Mapping[str, float]]
    validates_on_test: bool
    spoilt: frozenset[tuple[str | int, ...]] = frozenset()

    @property
    def searched(self) -> set[str]:
        """Names in [space], the spoilt ones too."""
        return {*self.space, *(str(path[1]) for path in self.spoilt if path[0] == "space" and len(path) > 1)}

    def is_whole(self, table: str) -> bool:
        """Whether nothing of the table is left out."""
        return all(path[0] != table for path in self.spoilt)


def mistakes(tables: Tables) -> list[str]:
    """All that is wrong, one line each with its place."""
    found = [
        *_tables(tables),
        *_space(tables),
        *_loss_ratio(tables),
        *_listed(tables),
        *_published(tables),
        *_values(tables),
    ]
    return found + list(_combinations(tables))


def _tables(tables: Tables) -> Iterator[str]:
    if not tables.searched and not tables.trials and tables.is_whole("space") and tables.is_whole("trials"):
        yield "neither [space] nor [[trials]]: name what to search or what to run"
    if tables.searched and tables.validates_on_test:
        yield 'split.validation = "test" would choose on the test set: only a definition without [space]'
    for name in tables.fixed:
        if name in tables.searched:
            yield f"{name!r} is both in [space] and in [fixed]: drop one"


def _space(tables: Tables) -> Iterator[str]:
    if "seed" in tables.space:
        yield "space.seed: a searched seed selects a lucky one; use [study] repeats"
    for name, parameter in tables.space.items():
        if isinstance(parameter, Choices):
            continue
        kind = kind_of(name)
        if kind in ("boolean", "text"):
            form = "[true, false]" if kind == "boolean" else "[...]"
            yield f"space.{name}: a {kind} has no low and high: use {{choices = {form}}}"
        elif kind == "whole number" and isinstance(parameter.step, float):
            yield f"space.{name}: step = {parameter.step}: {name} is a whole number, so its step must be one"


def _loss_ratio(tables: Tables) -> Iterator[str]:
    weights = [name for name in loss_ratio.WEIGHTS if name in tables.searched]
    if weights and "batch_size" in tables.searched:
        yield (
            f"space.{weights[0]}: the retrieval loss is a sum over the batch, so that a weight means something else at "
            "each batch_size that is searched: search loss_ratio in place of both weights"
        )
    listed = {name for trial in tables.trials for name in trial}
    names = {*tables.searched, *tables.fixed, *listed}
    beside = [name for name in loss_ratio.WEIGHTS if name in names]
    if loss_ratio.NAME in names and beside:
        yield f"loss_ratio stands for both weights, and {beside[0]} is named beside it: drop one of them"
    if loss_ratio.NAME in listed and loss_ratio.NAME not in {*tables.searched, *tables.fixed}:
        for number, trial in enumerate(tables.trials, start=1):
            if loss_ratio.NAME not in trial:
                yield f"[[trials]] number {number}: loss_ratio is missing, and others have it: add it"


def _listed(tables: Tables) -> Iterator[str]:
    for number, trial in enumerate(tables.trials, start=1):
        for name, value in trial.items():
            place = f"[[trials]] number {number}: {name}"
            if name in tables.space and value not in tables.space[name] and not _wrong_with(name, value):
                yield f"{place} = {shown(value)} is outside its [space] or between its steps"
            if tables.space and name not in tables.searched:
                yield f"{place} is not in [space]: move it to [fixed]"


def _published(tables: Tables) -> Iterator[str]:
    if tables.published and tables.is_whole("trials") and len(tables.published) != len(tables.trials):
        yield f"[[published]] has {len(tables.published)} entries for {len(tables.trials)} [[trials]]"
    for number, entry in enumerate(tables.published, start=1):
        if entry.keys() != tables.published[0].keys():
            yield f"[[published]] number {number}: its metrics are not those of number 1: name the same"


def _values(tables: Tables) -> Iterator[str]:
    """Each value that is named, by itself."""
    places = [(f"fixed.{name}", name, value) for name, value in tables.fixed.items()]
    for name, parameter in tables.space.items():
        if isinstance(parameter, Choices):
            wrong = [value for value in parameter.choices if _wrong_with(name, value)]
            places += [(f"space.{name}.choices", name, value) for value in wrong[:1]]
        elif kind_of(name) not in ("boolean", "text"):
            ends = {"low": parameter.low, "high": parameter.high, "default": parameter.default}
            places += [(f"space.{name}.{end}", name, value) for end, value in ends.items() if value is not None]
    for number, trial in enumerate(tables.trials, start=1):
        places += [(f"[[trials]] number {number}: {name}", name, value) for name, value in trial.items()]
    for place, name, value in places:
        message = _wrong_with(name, value)
        if message:
            yield f"{place}: {message}"


def _wrong_with(name: str, value: Scalar) -> str:
    try:
        check_value(name, value)
    except ValidationError as error:
        return config_error(error, default_of(name)) if error.errors()[0]["loc"] else ""
    return ""


def _combinations(tables: Tables) -> Iterator[str]:
    """The first values that are right each by itself and wrong together."""
    extremes = {name: _right(name, parameter.extremes()) for name, parameter in tables.space.items()}
    fixed = {name: value for name, value in tables.fixed.items() if not _wrong_with(name, value)}
    base = {**fixed, **{name: values[-1] for name, values in extremes.items() if values}}
    for place, values in islice(_candidates(extremes, tables.trials), MOST_COMBINATIONS):
        try:
            config_of({**base, **values})
        except ValidationError as error:
            if not error.errors()[0]["loc"]:
                yield f"{place if _is_right(fixed) else '[fixed]'}: {config_error(error)}"
                return


def _candidates(
    extremes: Mapping[str, Sequence[Scalar]], trials: Sequence[Mapping[str, Scalar]]
) -> Iterator[tuple[str, Mapping[str, Scalar]]]:
    """Places and values: each listed trial, each extreme by itself, and each two extremes."""
    for number, trial in enumerate(trials, start=1):
        yield f"[[trials]] number {number}", trial
    singles = [(name, value) for name, values in extremes.items() for value in values]
    for name, value in singles:
        yield f"space.{name} = {shown(value)}", {name: value}
    for (name, value), (other, second) in combinations(singles, 2):
        if name != other:
            yield f"space.{name} = {shown(value)} with {other} = {shown(second)}", {name: value, other: second}


def _right(name: str, values: Iterable[Scalar]) -> list[Scalar]:
    return [value for value in values if not _wrong_with(name, value)]


def _is_right(values: Mapping[str, Scalar]) -> bool:
    try:
        config_of(values)
    except ValidationError:
        return False
    return True

"""Check the tables of a study file against each other, and describe each mistake in one line in the file's words."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, takewhile
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mtsearch.metrics import find_metric
from mtsearch.study_file.config import (
    LOSS_RATIO,
    LOSS_WEIGHTS,
    Losses,
    check_value,
    default_of,
    kind_of,
    make_config,
    task_of_weight,
    weight_name,
)
from mtsearch.study_file.space import Choices, Parameter, Scalar
from mtsearch.study_file.tasks import TUTORIAL_TASKS, TaskSection, kinds_of, metrics_of_tasks
from mtsearch.text import REPR, nearest, quote, shorten_middle

SEVERAL_MISTAKES = "mistakes"
"""Type of a validator's error with several mistakes; its context has their lines under the same name."""
REPR.maxstring = REPR.maxother = REPR.maxlong = 60
REPR.maxlevel = 3

# NOTE: pydantic reports one error for each type of a union; each union of a study file gets one message here.
_UNIONS = {
    frozenset({"int_type", "float_type"}): "input should be a valid number",
    frozenset({"bool_type", "int_type", "float_type", "string_type"}): "input should be a number, text, true or false",
}

Path = tuple[str | int, ...]


def config_message(error: ValidationError, default: object = None) -> str:
    """Return the message for values that make no `TrialConfig`, without their place.

    Args:
        error: pydantic's error.
        default: an example of the form of a text.
    """
    first = error.errors()[0]
    if first["type"] == "string_pattern_mismatch":
        return f"{quote(first['input'])} does not have the form of {default!r}"
    return _plain_message(first)


def validation_messages(
    error: ValidationError, raw: Mapping[str, Any], model: type[BaseModel], known: Collection[Path] = ()
) -> list[str]:
    """Return a line for each mistake of a file, with its place; several errors of one place make one line.

    Args:
        error: pydantic's error.
        raw: content of the file.
        model: the class that the file was checked against.
        known: places that were reported before and are left out.
    """
    lines: list[str] = []
    for place, errors in _group_by_place(error, raw).items():
        if place in known:
            continue
        first = errors[0]
        if first["type"] == SEVERAL_MISTAKES:
            lines += first["ctx"][SEVERAL_MISTAKES]
        else:
            lines.append(_message(place, errors, model))
    return lines


def find_mistaken_paths(error: ValidationError, raw: Mapping[str, Any]) -> list[Path]:
    """Return the paths in `raw` of all mistakes."""
    return list(_group_by_place(error, raw))


def remove_paths(raw: Mapping[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    """Return a study file without its mistakes, so that the rest can be checked; it gets a name if it has none.

    A parameter of [space] or a list with a mistake is removed as a whole.

    Args:
        raw: content of the file.
        paths: paths of the mistakes.
    """
    rest = dict(raw)
    for path in paths:
        keys = [str(key) for key in takewhile(lambda part: isinstance(part, str), path)]
        if keys[0] == "space":
            keys = keys[:2]
        _remove_key(rest, keys)
    study = rest.get("study")
    rest["study"] = {"name": "unnamed", **(study if isinstance(study, Mapping) else {})}
    return rest


def _remove_key(table: dict[str, Any], keys: Sequence[str]) -> None:
    for key in keys[:-1]:
        inner = table.get(key)
        if not isinstance(inner, Mapping):
            return
        table[key] = dict(inner)  # a copy: the caller's table must not change
        table = table[key]
    table.pop(keys[-1], None)


def _group_by_place(error: ValidationError, raw: Mapping[str, Any]) -> dict[Path, list[Any]]:
    """Group pydantic's errors by their place in the file; errors inside a table of an unknown name are left out."""
    errors = error.errors()
    unknown = [tuple(each["loc"][:-1]) for each in errors if each["loc"] and each["loc"][-1] == "[key]"]
    places: dict[Path, list[Any]] = {}
    for each in errors:
        location = tuple(each["loc"])
        if location and location[-1] != "[key]" and any(location[: len(key)] == key for key in unknown):
            continue
        places.setdefault(tuple(_visible_parts(location, raw, each["type"] == "missing")), []).append(each)
    return places


def _message(place: Path, errors: Sequence[Any], model: type[BaseModel]) -> str:
    first = errors[0]
    if first["type"] == "extra_forbidden":
        *table, key = first["loc"]
        return f"unknown key {shorten_middle(_format_place(place))!r}{nearest(str(key), _fields_at(model, table))}"
    name = shorten_middle(_format_place(place))
    if first["type"] == "missing":
        return f"{name} is missing: add it"
    if first["type"] == "no_parameter":
        return f"{name} = {quote(first['input'])} {first['msg']}"
    union = _UNIONS.get(frozenset(each["type"] for each in errors))
    message = _plain_message({**first, "msg": union} if union else first)
    return message if not name or message.startswith(name) else f"{name}: {message}"


def _format_place(place: Path) -> str:
    """Format a place as a message shows it: `space.learning_rate.low`, or `[[trials]] number 1: epochs`."""
    if len(place) > 1 and isinstance(place[1], int) and place[0] in ("trials", "published"):
        rest = _format_place(place[2:])
        return f"[[{place[0]}]] number {place[1] + 1}" + (f": {rest}" if rest else "")
    return ".".join(str(key) if str(key).isprintable() else repr(key) for key in place)


def _visible_parts(location: Sequence[str | int], raw: Any, missing: bool) -> Iterator[str | int]:
    """Yield the parts of a pydantic location that are in the file, without the names of union members."""
    for depth, part in enumerate(location):
        inside = isinstance(raw, Mapping) and part in raw
        inside |= isinstance(raw, Sequence) and isinstance(part, int) and part < len(raw)
        if inside:
            raw = raw[part]
        if inside or (missing and depth == len(location) - 1):
            yield part


def _fields_at(model: type[BaseModel], table: Sequence[str | int]) -> list[str]:
    """Return the keys that are allowed in the table at a pydantic location."""
    types: list[Any] = [model]
    for part in table:
        types = [inner for each in types for inner in _inner_types(each, part)]
    return [name for each in types for name in getattr(each, "model_fields", {})]


def _inner_types(form: Any, part: str | int) -> list[Any]:
    """Return the types of the values that one part of a location leads to."""
    if isinstance(form, type) and issubclass(form, BaseModel):
        field = form.model_fields.get(str(part))
        return (
            _union_members(field.annotation) if field else [form]
        )  # not a field: the part is the name of a union member
    if get_origin(form) in (dict, tuple):
        return _union_members([each for each in get_args(form) if each is not ...][-1])
    return []


def _union_members(form: Any) -> list[Any]:
    """Return the types in a union, without their annotations."""
    if get_origin(form) is Annotated:
        return _union_members(get_args(form)[0])
    if get_origin(form) in (Union, UnionType):
        return [member for each in get_args(form) for member in _union_members(each)]
    return [form]


def _plain_message(error: Any) -> str:
    """Return pydantic's message in the words of the file, without its introduction."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":
        return message
    given = error["input"]
    if isinstance(given, float) and not math.isfinite(given):
        return f"{given} is not a finite number"
    if error["type"] == "too_short":
        return "is empty: name at least one"
    if error["type"] == "tuple_type":
        table = error["loc"][0]
        of_tables = f"is not a list of tables: write [[{table}]]" if table in ("trials", "published") else ""
        return of_tables or f"{quote(given)} is not a list: write [...]"
    if error["type"] in ("model_type", "dict_type"):
        return f"{quote(given)} is not a table"
    return f"{message[0].lower()}{message[1:]}, not {quote(given)}"


MOST_COMBINATIONS = 10_000
"""Most combinations that are checked, in 0.2 s; a dozen ranges and a few choices have fewer than 1,000."""


@dataclass(frozen=True)
class Tables:
    """The tables of a study file that must agree with each other.

    Attributes:
        objectives, losses: of [study], the losses as implied by the other tables.
        space, fixed, trials, published, tasks: as in `StudyDefinition`.
        has_model: True if there is a custom model.
        validates_on_test: True for `split.validation = "test"`.
        left_out: the first two keys of each entry that is left out here because it is wrong by itself.
    """

    objectives: Sequence[str]
    losses: Losses
    tasks: Mapping[str, TaskSection]
    has_model: bool
    space: Mapping[str, Parameter]
    fixed: Mapping[str, Scalar]
    trials: Sequence[Mapping[str, Scalar]]
    published: Sequence[Mapping[str, float]]
    validates_on_test: bool
    left_out: frozenset[tuple[str | int, ...]] = frozenset()

    @property
    def searched(self) -> set[str]:
        """Names of all parameters in [space], with those that are left out."""
        return {*self.space, *(str(path[1]) for path in self.left_out if path[0] == "space" and len(path) > 1)}

    @property
    def named(self) -> set[str]:
        """Names of all parameters in [space], [fixed] and [[trials]]."""
        return {*self.searched, *self.fixed, *(name for trial in self.trials for name in trial)}

    def metric_keys(self) -> tuple[str, ...]:
        """Return the objectives by their keys in this study; one that is unknown stays as it is."""
        metrics = metrics_of_tasks(self.tasks)
        return tuple(find_metric(name, metrics) or name for name in self.objectives)

    def is_complete(self, table: str) -> bool:
        """Tell whether no entry of a table is left out."""
        return all(path[0] != table for path in self.left_out)


def find_conflicts(tables: Tables) -> list[str]:
    """Return a line for each conflict between the tables, with its place."""
    found = [
        *_check_tables(tables),
        *_check_metrics(tables),
        *_check_weights(tables),
        *_check_space(tables),
        *_check_loss_ratio(tables),
        *_check_trials(tables),
        *_check_published(tables),
        *_check_values(tables),
    ]
    return found + list(_check_combinations(tables))


def _check_tables(tables: Tables) -> Iterator[str]:
    if not tables.searched and not tables.trials and tables.is_complete("space") and tables.is_complete("trials"):
        yield "neither [space] nor [[trials]] is given: add what to search or what to run"
    if tables.searched and tables.validates_on_test:
        yield 'split.validation = "test" would search on the test set: it is allowed only without [space]'
    if tables.has_model and tables.tasks not in ({}, TUTORIAL_TASKS):
        yield "[tasks]: a custom model learns the tutorial's two, rating and retrieval: remove [tasks], or [model]"
    for name in tables.fixed:
        if name in tables.searched:
            yield f"{name!r} is both in [space] and in [fixed]: remove one"


def _check_metrics(tables: Tables) -> Iterator[str]:
    """Yield a line for each metric that no task has, or that several tasks have."""
    if not tables.is_complete("tasks"):
        return  # what a task that is wrong by itself would have is not known
    metrics = metrics_of_tasks(tables.tasks)

    def problem(name: str) -> str:
        if find_metric(name, metrics):
            return ""
        several = [key for key in metrics if key.rpartition(".")[2] == name]
        if several:
            return f"several tasks have {name!r}: write {' or '.join(map(repr, several))}"
        return f"unknown metric {name!r}{nearest(name, metrics)}"

    for name in tables.objectives:
        if message := problem(name):
            yield f"study.objectives: {message}"
    keys = tables.metric_keys()
    for key in dict.fromkeys(key for place, key in enumerate(keys) if key in keys[:place]):
        yield f"study.objectives: {key!r} is named twice: name different metrics"
    settings = [("fixed", tables.fixed), *((f"[[trials]] number {n}", each) for n, each in enumerate(tables.trials, 1))]
    for place, values in settings:
        monitor = values.get("monitor")
        if isinstance(monitor, str) and not _find_problem("monitor", monitor) and (message := problem(monitor)):
            yield f"{place}.monitor: {message}" if place == "fixed" else f"{place}: monitor: {message}"
    patient = "patience" in tables.named and tables.fixed.get("patience") != 0
    if patient and "monitor" not in tables.named and (message := problem(str(default_of("monitor")))):
        yield f'patience watches the metric "rmse", but {message}: name one as fixed.monitor'
    for number, entry in enumerate(tables.published, start=1):
        for name in entry:
            if message := problem(name):
                yield f"[[published]] number {number}: {message}"


def _check_weights(tables: Tables) -> Iterator[str]:
    """Yield a line for each weight that the study's losses or tasks do not have."""
    if not tables.is_complete("tasks"):
        return
    tasks = kinds_of(tables.tasks)
    of_tasks = {name: task for name in sorted(tables.named) if (task := task_of_weight(name))}
    if tables.losses == "normalized":
        if tables.has_model:
            yield 'study.losses: a custom model has losses of its own: remove losses, or write "tutorial"'
        for name in (*LOSS_WEIGHTS, LOSS_RATIO):
            if name in tables.named:
                known = " and ".join(map(weight_name, tasks))
                yield f'{name} belongs to losses = "tutorial": use {known} in its place'
        for name, task in of_tasks.items():
            if task not in tasks:
                yield f"{name}: there is no task {task!r}{nearest(task, tasks)}"
        return
    if tables.tasks and not tables.has_model:
        yield 'study.losses: "tutorial" weighs the tutorial\'s two tasks: remove losses, or [tasks]'
    for name in of_tasks:
        yield (
            f'{name} belongs to losses = "normalized": use rating_weight and retrieval_weight in its place, in a file '
            "of your own (mtsearch init writes one)"
        )


def _check_space(tables: Tables) -> Iterator[str]:
    if "seed" in tables.space:
        yield "space.seed: a search over seeds only finds a lucky one: use [study] repeats"
    for name, parameter in tables.space.items():
        if isinstance(parameter, Choices):
            continue
        kind = kind_of(name)
        if kind in ("boolean", "text"):
            form = "[true, false]" if kind == "boolean" else "[...]"
            yield f"space.{name}: a {kind} has no low and high: use {{choices = {form}}}"
        elif kind == "whole number" and isinstance(parameter.step, float):
            yield f"space.{name}: step = {parameter.step}: {name} is a whole number, so its step must be one"


def _check_loss_ratio(tables: Tables) -> Iterator[str]:
    weights = [name for name in LOSS_WEIGHTS if name in tables.searched]
    if weights and "batch_size" in tables.searched:
        yield (
            f"space.{weights[0]}: the retrieval loss is a sum over the batch, so a weight has another effect at each "
            "batch_size of the search: search loss_ratio in place of both weights"
        )
    initial = {name for trial in tables.trials for name in trial}
    names = {*tables.searched, *tables.fixed, *initial}
    beside = [name for name in LOSS_WEIGHTS if name in names]
    if LOSS_RATIO in names and beside:
        yield f"loss_ratio replaces both weights, but {beside[0]} is given too: remove one of them"
    if LOSS_RATIO in initial and LOSS_RATIO not in {*tables.searched, *tables.fixed}:
        for number, trial in enumerate(tables.trials, start=1):
            if LOSS_RATIO not in trial:
                yield f"[[trials]] number {number}: loss_ratio is missing, but other trials have it: add it"


def _check_trials(tables: Tables) -> Iterator[str]:
    for number, trial in enumerate(tables.trials, start=1):
        for name, value in trial.items():
            place = f"[[trials]] number {number}: {name}"
            if name in tables.space and value not in tables.space[name] and not _find_problem(name, value):
                yield f"{place} = {quote(value)} is outside its [space] or between its steps"
            if tables.space and name not in tables.searched:
                yield f"{place} is not in [space]: move it to [fixed]"


def _check_published(tables: Tables) -> Iterator[str]:
    if tables.published and tables.is_complete("trials") and len(tables.published) != len(tables.trials):
        yield f"[[published]] has {len(tables.published)} entries for {len(tables.trials)} [[trials]]"
    for number, entry in enumerate(tables.published, start=1):
        if entry.keys() != tables.published[0].keys():
            yield f"[[published]] number {number}: its metrics differ from those of number 1: give the same metrics"


def _check_values(tables: Tables) -> Iterator[str]:
    """Yield a line for each value that is wrong by itself."""
    places = [(f"fixed.{name}", name, value) for name, value in tables.fixed.items()]
    for name, parameter in tables.space.items():
        if isinstance(parameter, Choices):
            wrong = [value for value in parameter.choices if _find_problem(name, value)]
            places += [(f"space.{name}.choices", name, value) for value in wrong[:1]]
        elif kind_of(name) not in ("boolean", "text"):
            ends = {"low": parameter.low, "high": parameter.high, "default": parameter.default}
            places += [(f"space.{name}.{end}", name, value) for end, value in ends.items() if value is not None]
    for number, trial in enumerate(tables.trials, start=1):
        places += [(f"[[trials]] number {number}: {name}", name, value) for name, value in trial.items()]
    for place, name, value in places:
        message = _find_problem(name, value)
        if message:
            yield f"{place}: {message}"


def _find_problem(name: str, value: Scalar) -> str:
    try:
        check_value(name, value)
    except ValidationError as error:
        return config_message(error, default_of(name)) if error.errors()[0]["loc"] else ""
    return ""


def _check_combinations(tables: Tables) -> Iterator[str]:
    """Yield a line for the first combination of values that is wrong although each value is valid by itself."""
    extremes = {name: _valid_values(name, parameter.extremes()) for name, parameter in tables.space.items()}
    fixed = {name: value for name, value in tables.fixed.items() if not _find_problem(name, value)}
    base = {"losses": tables.losses, **fixed, **{name: values[-1] for name, values in extremes.items() if values}}
    for place, values in islice(_combine_values(extremes, tables.trials), MOST_COMBINATIONS):
        try:
            config = make_config({**base, **values})
        except ValidationError as error:
            if not error.errors()[0]["loc"]:
                alone = {"losses": tables.losses, **fixed}
                yield f"{place if _is_valid(alone) else '[fixed]'}: {config_message(error)}"
                return
            continue
        tasks = kinds_of(tables.tasks)
        if tables.losses == "normalized" and not any(config.weight_of(*task) for task in tasks.items()):
            yield f"{place}: the weights of all tasks are 0: nothing would be learnt"
            return


def _combine_values(
    extremes: Mapping[str, Sequence[Scalar]], trials: Sequence[Mapping[str, Scalar]]
) -> Iterator[tuple[str, Mapping[str, Scalar]]]:
    """Yield combinations of values with their places: each initial trial, each extreme, and each pair of extremes."""
    for number, trial in enumerate(trials, start=1):
        yield f"[[trials]] number {number}", trial
    singles = [(name, value) for name, values in extremes.items() for value in values]
    for name, value in singles:
        yield f"space.{name} = {quote(value)}", {name: value}
    for (name, value), (other, second) in combinations(singles, 2):
        if name != other:
            yield f"space.{name} = {quote(value)} with {other} = {quote(second)}", {name: value, other: second}


def _valid_values(name: str, values: Iterable[Scalar]) -> list[Scalar]:
    return [value for value in values if not _find_problem(name, value)]


def _is_valid(values: Mapping[str, Scalar]) -> bool:
    try:
        make_config(values)
    except ValidationError:
        return False
    return True

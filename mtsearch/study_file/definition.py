"""`StudyDefinition`, the checked and immutable content of a study file; and the point from which its study starts."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from mtsearch.errors import DefinitionError
from mtsearch.metrics import METRICS, Metric, find_metric
from mtsearch.study_file.config import (
    LOSS_RATIO,
    LOSS_WEIGHTS,
    PARAMETERS,
    Losses,
    TrialConfig,
    default_of,
    is_parameter,
    kind_of,
    make_config,
    ratio_of_unit_weights,
    weight_name,
)
from mtsearch.study_file.load import join_weight_names, read_study_file
from mtsearch.study_file.sections import DataSection, ModelSection, Pruner, Sampler, Seed, SplitSection
from mtsearch.study_file.space import NOT_STRICT, Choices, Number, Parameter, Scalar, Section
from mtsearch.study_file.tasks import MOST_TASKS, TaskName, TaskSection, kinds_of, metrics_of_tasks
from mtsearch.study_file.validation import (
    SEVERAL_MISTAKES,
    Path,
    Tables,
    find_conflicts,
    find_mistaken_paths,
    remove_paths,
    validation_messages,
)
from mtsearch.text import nearest, quote, shorten_middle

DEFAULT = "ml-100k"
"""The shipped definition that commands use if none is named."""

MOST_OBJECTIVES = 4
"""With more objectives nearly every trial would be on the front, and the front would select nothing."""


class StudySection(Section):
    """The table [study]: name, objectives, sampler and pruner."""

    name: str = Field(
        min_length=1, max_length=200, description="Name in the storage; another name makes another study."
    )
    seed: Seed = Field(default=42, description="Seed of the proposals, and of every trial.")
    objectives: tuple[str, ...] = Field(
        default=("rmse", "top_100"),
        strict=False,
        description="One to four metrics; of two the first is on the horizontal axis. With [tasks] `task.metric`, such "
        "as purchase.top_100.",
    )
    losses: Losses | None = Field(
        default=None,
        description="`normalized`: the loss of each task is 1 for a predictor that knows nothing, so that weights "
        "compare; `tutorial`: mean squared error and summed softmax loss, as published. By default normalized, or "
        "tutorial where the file has rating_weight, retrieval_weight, loss_ratio or a [model].",
    )
    repeats: int = Field(default=1, ge=1, le=1000, description="Seeds of a trial; its values are their means.")
    sampler: Sampler = Field(default=Sampler(), description="How the next configuration is proposed.")
    pruner: Pruner = Field(default=Pruner(), description="Which trials are stopped before their last epoch.")

    @field_validator("name", mode="before")
    @classmethod
    def _require_printable(cls, name: object) -> object:
        # Controls, lone surrogates, line and paragraph separators: no terminal, page or database takes them all.
        if isinstance(name, str) and any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in name):
            raise ValueError(f"{quote(name)} has a character that cannot be printed: use letters, digits and spaces")
        if isinstance(name, str) and name != name.strip():
            raise ValueError(f"{quote(name)} begins or ends with a space: remove it")
        return name

    @field_validator("objectives", mode="before")
    @classmethod
    def _require_one_to_four(cls, keys: object) -> object:
        if isinstance(keys, Sequence) and not isinstance(keys, str) and not 1 <= len(keys) <= MOST_OBJECTIVES:
            raise ValueError(f"name one to four metrics, not {len(keys)}")
        return keys

    @field_validator("objectives")
    @classmethod
    def _require_different(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise ValueError(f"{key!r} is named twice: name different metrics")
        return keys

    @model_serializer(mode="wrap")
    def _leave_out_tutorial(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # NOTE: definitions of earlier versions, which knew no other losses, must keep their text.
        return {key: value for key, value in written(self).items() if (key, value) != ("losses", "tutorial")}


class ConstraintsSection(Section):
    """The table [constraints]: limits for a trial; a trial beyond them is kept, but is on no front."""

    max_parameters: int | None = Field(
        default=None, gt=0, description="Largest number of values that the model may learn."
    )
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Longest training with one seed, in seconds, without the evaluation.",
    )


def _require_known_parameter(name: str) -> str:
    if not is_parameter(name):
        raise ValueError(f"unknown parameter{nearest(name, PARAMETERS)}")
    return name


def _require_known_metric(key: str) -> str:
    if key.rpartition(".")[2] not in METRICS:
        raise ValueError(f"unknown metric{nearest(key, METRICS)}")
    return key


ParameterName = Annotated[str, AfterValidator(_require_known_parameter)]
MetricName = Annotated[str, AfterValidator(_require_known_metric)]


class StudyDefinition(Section):
    """A study file with all defaults: the search space, fixed values, data, split, and settings of the study.

    `space` and `trials` may both be given (the initial trials of `trials` run first), and one of them must be.
    `published` has metrics that someone else reported for the initial trials, in their order, for comparison.
    """

    study: StudySection
    data: DataSection = DataSection()
    split: SplitSection = SplitSection()
    tasks: dict[TaskName, TaskSection] = Field(default_factory=dict, max_length=MOST_TASKS)
    constraints: ConstraintsSection = ConstraintsSection()
    model: ModelSection | None = None
    space: dict[ParameterName, Parameter] = Field(default_factory=dict)
    fixed: dict[ParameterName, Scalar] = Field(default_factory=dict)
    trials: Annotated[tuple[dict[ParameterName, Scalar], ...], NOT_STRICT] = ()
    published: Annotated[tuple[dict[MetricName, Number], ...], NOT_STRICT] = ()

    @model_validator(mode="before")
    @classmethod
    def _refuse_large_integers(cls, raw: object) -> object:
        """Refuse integers beyond the 64 bits of TOML: larger ones may fail when they are compared or printed."""
        todo: list[tuple[str, object]] = [("", raw)]
        while todo:
            place, value = todo.pop()
            if isinstance(value, Mapping):
                todo += [(f"{place}.{key}", inner) for key, inner in value.items()]
            elif isinstance(value, list | tuple):
                todo += [(f"{place}.{number}", inner) for number, inner in enumerate(value)]
            elif isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ValueError(f"{shorten_middle(place[1:])} is an integer of more than 64 bits")
        return raw

    @model_validator(mode="after")
    def _require_consistency(self, info: ValidationInfo) -> Self:
        self._settle_losses()
        tables = Tables(
            objectives=self.study.objectives,
            losses=self.losses,
            tasks=self.tasks,
            has_model=self.model is not None,
            space=self.space,
            fixed=self.fixed,
            trials=self.trials,
            published=self.published,
            validates_on_test=self.split.validation == "test",
            left_out=info.context or frozenset(),
        )
        conflicts = [self.study.pruner.conflict_with(self.study.sampler.kind), self._conflict_with_drawn_users()]
        if found := [*filter(None, conflicts), *find_conflicts(tables)]:
            raise PydanticCustomError(SEVERAL_MISTAKES, "see there", {SEVERAL_MISTAKES: found})
        self._settle("objectives", tables.metric_keys())
        return self

    def _settle_losses(self) -> None:
        """Put the losses that the other tables imply in place of those that the file does not name."""
        if self.study.losses is None:
            named = {*self.space, *self.fixed, *(name for trial in self.trials for name in trial)}
            is_published = not self.tasks and not named.isdisjoint((*LOSS_WEIGHTS, LOSS_RATIO))
            self._settle("losses", "tutorial" if is_published or self.model is not None else "normalized")

    def _settle(self, key: str, value: Any) -> None:
        """Put a value in place of what the file has under [study], which still counts as not given if it was not."""
        values = {name: getattr(self.study, name) for name in StudySection.model_fields}
        section = StudySection.model_construct(self.study.model_fields_set, **{**values, key: value})
        object.__setattr__(self, "study", section)

    @property
    def losses(self) -> Losses:
        """The losses of the study, as the file says or implies."""
        return self.study.losses or "normalized"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics of the study's tasks, by their keys in this study."""
        return self.metrics_of(self.data.feedback or "explicit")

    def metrics_of(self, feedback: str) -> Mapping[str, Metric]:
        """Return `metrics` with the units of this kind of feedback, which reading the data may have found."""
        return metrics_of_tasks(self.tasks, feedback)

    def config(self, values: Mapping[str, Any]) -> TrialConfig:
        """Return the configuration with these parameters, the definition's fixed values and its losses.

        Its `monitor` is the metric's key in this study.

        Raises:
            ValidationError: a value, or the combination of values, is not allowed.
        """
        config = make_config({"losses": self.losses, **self.fixed, **values})
        monitor = find_metric(config.monitor, self.metrics)
        return config.model_copy(update={"monitor": monitor}) if monitor else config

    def _conflict_with_drawn_users(self) -> str:
        """Return why the objectives do not allow a sample of validation users; an empty text if they do."""
        for key in self.study.objectives:
            metric = METRICS.get(key.rpartition(".")[2])
            if self.split.validation_users and metric and metric.per == "catalogue":
                return (
                    f"study.objectives: {key} of a sample of users does not estimate that of all users: "
                    "drop split.validation_users"
                )
        return ""

    @classmethod
    def load(cls, name: str, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None) -> Self:
        """Read a study file.

        Args:
            name: the path of a TOML file, or the name of a shipped definition.
            overrides: one or several of `table.key=value`, the value as in TOML; applied before the file is checked.
            values: Python values by `table.key`; applied after the overrides.

        Raises:
            DefinitionError: the file cannot be found, read or used; the message names file and key.
        """
        path, raw = read_study_file(name, [overrides] if isinstance(overrides, str) else overrides, values or {})
        return cls.from_mapping(raw, origin=f"{path} with --set" if overrides else str(path))

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any], origin: str = "definition") -> Self:
        """Check what a TOML reader returned; `origin` is named in errors.

        Raises:
            DefinitionError: the mapping has mistakes; the message has one line for each.
        """
        raw = join_weight_names(raw)
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            found = cls._find_mistakes(error, raw)
            raise DefinitionError.of_several(f"{origin}: {line}" for line in found) from None

    @classmethod
    def _find_mistakes(cls, error: ValidationError, raw: Mapping[str, Any]) -> list[str]:
        """Return all mistakes of a study file, one line each.

        pydantic does not check a table as a whole, or tables against each other, while single values are wrong.
        So the wrong values are removed and the rest is checked again, until no new mistake is found.
        """
        found: list[str] = []
        paths: list[Path] = []
        while True:
            found += validation_messages(error, raw, cls, paths)
            further = [path for path in find_mistaken_paths(error, raw) if path not in paths]
            paths += further
            if not further or () in paths:
                return found
            try:
                cls.model_validate(remove_paths(raw, paths), context=frozenset(path[:2] for path in paths))
            except ValidationError as next_error:
                error = next_error
            else:
                return found

    def starting_point(self) -> dict[str, Scalar]:
        """Return the values from which the study starts (see `find_starting_point`); empty without a [space]."""
        return find_starting_point(self.space)

    def unit_weights(self) -> dict[str, Scalar] | None:
        """Return the starting point with all loss weights equal to 1; None if the space does not have it."""
        if self.losses == "tutorial":
            return find_unit_weights(self.space, self.fixed)
        return _with_weights(self.space, self.fixed, dict.fromkeys(map(weight_name, kinds_of(self.tasks)), 1.0))

    def specialist_weights(self) -> dict[str, dict[str, Scalar]]:
        """Return for each task the starting point with its weight at the top and all others at the bottom.

        Of the tasks whose weight is not searched, one alone can be above all.

        Empty if the weights are in the tutorial's units or none is searched.
        """
        names = {task: weight_name(task) for task in kinds_of(self.tasks)}
        searched = {name: self.space[name].extremes() for name in names.values() if name in self.space}
        if self.losses == "tutorial" or not searched:
            return {}
        start = self.starting_point()
        others = [task for task, own in names.items() if own not in searched]
        return {
            task: {**start, **{name: (max if name == own else min)(ends) for name, ends in searched.items()}}
            for task, own in names.items()
            if own in searched or others == [task]
        }

    def resolved(self) -> dict[str, Any]:
        """Return the definition as plain values with all defaults; equal definitions give equal mappings."""
        values = self.model_dump(mode="json", exclude_none=True)
        return values if self.tasks else {key: value for key, value in values.items() if key != "tasks"}


Values = dict[str, Scalar]


def find_starting_point(space: Mapping[str, Parameter]) -> Values:
    """Return the value of each searched parameter from which a study starts.

    It is the parameter's `default` in the study file, else the default of `TrialConfig` if the space has that value,
    else the middle: half-way on the scale of a range, at the nearest step; of choices the first. `loss_ratio` starts
    at the value of its range that is nearest to 0.
    """
    return {name: _starting_value(name, parameter) for name, parameter in space.items()}


def find_unit_weights(space: Mapping[str, Parameter], fixed: Mapping[str, Scalar]) -> Values | None:
    """Return the starting point with both loss weights equal to 1; None if the space does not have it.

    A space with `loss_ratio` gets the ratio that equals two weights of 1 at the starting point's batch size.
    """
    start = find_starting_point(space)
    settled = {**fixed, **start}
    if LOSS_RATIO in settled:
        batch_size = settled.get("batch_size", default_of("batch_size"))
        wanted: Values = {LOSS_RATIO: ratio_of_unit_weights(int(batch_size))}
    else:
        wanted = dict.fromkeys(LOSS_WEIGHTS, 1.0)
    return _with_weights(space, fixed, wanted)


def _with_weights(
    space: Mapping[str, Parameter], fixed: Mapping[str, Scalar], wanted: Mapping[str, Scalar]
) -> Values | None:
    """Return the starting point with some values; None if the space does not have them."""
    start = find_starting_point(space)
    for name, value in wanted.items():
        if name in space:
            if value not in space[name]:
                return None
            start[name] = _equal_choice(space[name], value)
        elif fixed.get(name, default_of(name)) != value:
            return None
    return start


def _starting_value(name: str, parameter: Parameter) -> Scalar:
    default = default_of(name)
    if parameter.default is not None:
        return _equal_choice(parameter, parameter.default)
    if default in parameter:
        return _equal_choice(parameter, default)
    if isinstance(parameter, Choices):
        return parameter.choices[0]
    middle = 0.0 if name == LOSS_RATIO else parameter.middle()
    return parameter.nearest(middle, whole=kind_of(name) == "whole number")


def _equal_choice(parameter: Parameter, value: Scalar) -> Scalar:
    """Return a value in the form in which the choices have it: 1 and 1.0 are one choice."""
    if isinstance(parameter, Choices):
        return next(choice for choice in parameter.choices if choice == value)
    return value

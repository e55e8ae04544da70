"""The search space of a definition as Optuna's suggestions, and the initial trials of a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna

from mtsearch.errors import DefinitionError, StudyMismatch
from mtsearch.search.attributes import INITIAL_TRIALS
from mtsearch.search.pareto import FrontRow
from mtsearch.study_file.config import TrialConfig, default_of, in_order, kind_of
from mtsearch.study_file.definition import StudyDefinition
from mtsearch.study_file.space import Choices, Parameter, Scalar


class Space:
    """The searched parameters of a definition, in the order of display, so that the order in the file is free.

    Args:
        definition: if it has no [space], each value in its [[trials]] is a choice.

    Attributes:
        parameters: by name.
        own_trials: parameters of the trials that the definition lists under [[trials]], in order.
    """

    def __init__(self, definition: StudyDefinition) -> None:
        searched = definition.space or _choices_of_trials(definition)
        self.parameters = {name: searched[name] for name in in_order(searched)}
        self._definition = definition
        self.own_trials = [self._complete(trial, definition) for trial in definition.trials]

    def sample(self, trial: optuna.Trial) -> TrialConfig:
        """Ask a trial for the value of every searched parameter, and return the configuration."""
        values = {name: _suggest(trial, name, parameter) for name, parameter in self.parameters.items()}
        return self.config(values)

    def config(self, params: Mapping[str, Any]) -> TrialConfig:
        """Return the configuration with these parameters and the definition's fixed values."""
        return self._definition.config({"seed": self._definition.study.seed, **self._definition.fixed, **params})

    def _complete(self, trial: Mapping[str, Scalar], definition: StudyDefinition) -> dict[str, Scalar]:
        if definition.space:
            return dict(trial)  # the parameters that it leaves open are sampled
        return {name: trial.get(name, _default_value(definition, name)) for name in self.parameters}


def _choices_of_trials(definition: StudyDefinition) -> dict[str, Parameter]:
    """Return a space in which each value of the definition's [[trials]] is a choice of its parameter."""
    names = {name for trial in definition.trials for name in trial}
    values = {
        name: [trial.get(name, _default_value(definition, name)) for trial in definition.trials] for name in names
    }
    return {name: Choices(choices=tuple(dict.fromkeys(given))) for name, given in values.items()}


def _default_value(definition: StudyDefinition, name: str) -> Scalar:
    """Return the value of a parameter in a trial of the definition that does not name it."""
    return definition.fixed.get(name, default_of(name))


def _suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Scalar:
    if isinstance(parameter, Choices):
        choice: Scalar = trial.suggest_categorical(name, list(parameter.choices))  # type: ignore[assignment] # no None
        return choice
    if kind_of(name) == "whole number":
        step = int(parameter.step) if parameter.step is not None else 1
        return trial.suggest_int(name, int(parameter.low), int(parameter.high), step=step, log=parameter.log)
    return trial.suggest_float(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)


@dataclass(frozen=True)
class InitialTrial:
    """One of the first trials of a study, whose parameters are given; a sampler fills in those that it leaves open.

    Attributes:
        label: its origin, as reports show it.
        params: the given parameters, by name.
    """

    label: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class WarmStart:
    """The front of another study as initial trials.

    Attributes:
        study: name of the other study.
        trials: the trials of its front, in the space of this definition.
    """

    study: str
    trials: tuple[InitialTrial, ...] = ()


def initial_trials(definition: StudyDefinition, warm_start: WarmStart | None) -> list[InitialTrial]:
    """Return the initial trials of a study in order, each configuration once.

    These are the definition's [[trials]], then, if it has a [space], its starting point, the starting point with loss
    weights of 1, that with each task weighed as much and all others as little as the space allows, and the warm start.
    """
    trials = [InitialTrial(initial_label(number), params) for number, params in enumerate(Space(definition).own_trials)]
    if not definition.space:
        return trials
    trials.append(InitialTrial("starting point", definition.starting_point()))
    unit_weights = definition.unit_weights()
    if unit_weights is not None:
        trials.append(InitialTrial("weights 1/1" if definition.losses == "tutorial" else "equal weights", unit_weights))
    trials += [InitialTrial(f"{task} above all", given) for task, given in definition.specialist_weights().items()]
    return _without_repeats([*trials, *(warm_start.trials if warm_start else ())])


def initial_label(number: int) -> str:
    """Return the label of the trial with this 0-based index in the definition's [[trials]]."""
    return f"[[trials]] {number + 1}"


def warm_start_from(study: str, front: Sequence[FrontRow], definition: StudyDefinition) -> WarmStart:
    """Return the warm start from another study's front, fitted to the space of a definition.

    A parameter that is not in this space, or whose value is not, has its value from the starting point.

    Args:
        study: name of the other study.
        front: its front.
        definition: of the study that begins.

    Raises:
        DefinitionError: there is no [space].
        StudyMismatch: the front is empty, or none of its parameters lies in this space.
    """
    if not definition.space:
        raise DefinitionError(f"{definition.study.name} has no [space] for a warm start", "run it without --warm-start")
    if not front:
        raise StudyMismatch(f"study {study!r} has no front to start from", "name another study with --warm-start")
    # Fit each trial of the front to this space; at least one parameter must be usable in one of them.
    usable = {row.trial: _inside_space(definition, row.params) for row in front}
    if not any(usable.values()):
        searched = ", ".join(definition.space)
        problem = f"no parameter of study {study!r} lies in this space ({searched})"
        raise StudyMismatch(problem, "name another study with --warm-start, or widen [space]")
    start = definition.starting_point()
    return WarmStart(study, tuple(InitialTrial(f"{study} #{n}", {**start, **params}) for n, params in usable.items()))


def stored_initial_trials(study: optuna.Study) -> list[InitialTrial]:
    """Return the initial trials that were stored when the study was begun."""
    return [InitialTrial(**entry) for entry in study.user_attrs.get(INITIAL_TRIALS, [])]


def storable(trials: Iterable[InitialTrial]) -> list[dict[str, Any]]:
    """Return initial trials as a value to store, which `stored_initial_trials` reads."""
    return [asdict(trial) for trial in trials]


def _inside_space(definition: StudyDefinition, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that are searched in this space and whose value lies in it."""
    return {name: params[name] for name, parameter in definition.space.items() if params.get(name) in parameter}


def _without_repeats(trials: Iterable[InitialTrial]) -> list[InitialTrial]:
    """Return the trials without those whose parameters an earlier trial has."""
    first: dict[tuple[tuple[str, Any], ...], InitialTrial] = {}
    for trial in trials:
        first.setdefault(tuple(sorted(trial.params.items())), trial)
    return list(first.values())

"""From a definition to Optuna's suggestions and back to one `TrialConfig`."""

from collections.abc import Mapping
from typing import Any

import optuna

from mtsearch.config import TrialConfig
from mtsearch.definition import Choices, Parameter, Scalar, StudyDefinition
from mtsearch.study_file.searchable import FIELDS, config_of, default_of, kind_of


class Space:
    """What is searched, in the order of `FIELDS`, so that the file's order does not matter.

    Args:
        definition: its listed trials are a space of their own where it has none: each value that is listed is a choice.

    Attributes:
        parameters: by name.
        listed: parameters of the trials to run first, in order.
    """

    def __init__(self, definition: StudyDefinition) -> None:
        searched = definition.space or _listed_choices(definition)
        self.parameters = {name: searched[name] for name in FIELDS if name in searched}
        self._fixed = {"seed": definition.study.seed, **definition.fixed}
        self.listed = [self._complete(trial, definition) for trial in definition.trials]

    def sample(self, trial: optuna.Trial) -> TrialConfig:
        """Ask the study for every parameter."""
        values = {name: _suggest(trial, name, parameter) for name, parameter in self.parameters.items()}
        return self.config(values)

    def config(self, params: Mapping[str, Any]) -> TrialConfig:
        """The configuration of these parameters and the fixed values."""
        return config_of({**self._fixed, **params})

    def _complete(self, trial: Mapping[str, Scalar], definition: StudyDefinition) -> dict[str, Scalar]:
        if definition.space:
            return dict(trial)  # what it leaves open is sampled
        return {name: trial.get(name, _unlisted(definition, name)) for name in self.parameters}


def _listed_choices(definition: StudyDefinition) -> dict[str, Parameter]:
    names = {name for trial in definition.trials for name in trial}
    values = {name: [trial.get(name, _unlisted(definition, name)) for trial in definition.trials] for name in names}
    return {name: Choices(choices=tuple(dict.fromkeys(listed))) for name, listed in values.items()}


def _unlisted(definition: StudyDefinition, name: str) -> Scalar:
    """What a listed trial that does not name the parameter means by it."""
    return definition.fixed.get(name, default_of(name))


def _suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Scalar:
    if isinstance(parameter, Choices):
        choice: Scalar = trial.suggest_categorical(name, list(parameter.choices))  # type: ignore[assignment] # no None
        return choice
    if kind_of(name) == "whole number":
        step = int(parameter.step) if parameter.step is not None else 1
        return trial.suggest_int(name, int(parameter.low), int(parameter.high), step=step, log=parameter.log)
    return trial.suggest_float(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)

"""Where a study starts: the point of its space that is tried first."""

from collections.abc import Mapping

from mtsearch.study_file import loss_ratio
from mtsearch.study_file.parameters import Choices, Parameter, Scalar
from mtsearch.study_file.searchable import default_of, kind_of

Values = dict[str, Scalar]


def starting_point(space: Mapping[str, Parameter]) -> Values:
    """Of every searched parameter its `default`, else the one of `TrialConfig` where that is inside, else the middle.

    The middle is half-way on the scale of a range, at the nearest of its steps; of choices it is the first.
    `loss_ratio` starts at the value of its range that is nearest to 0.
    """
    return {name: _start(name, parameter) for name, parameter in space.items()}


def unit_weights(space: Mapping[str, Parameter], fixed: Mapping[str, Scalar]) -> Values | None:
    """The starting point with both losses weighed by 1, or by the ratio that this is at its batch size.

    None where the space has no such point.
    """
    start = starting_point(space)
    settled = {**fixed, **start}
    if loss_ratio.NAME in settled:
        batch_size = settled.get("batch_size", default_of("batch_size"))
        wanted: Values = {loss_ratio.NAME: loss_ratio.of_unit_weights(int(batch_size))}
    else:
        wanted = dict.fromkeys(loss_ratio.WEIGHTS, 1.0)
    for name, value in wanted.items():
        if name in space:
            if value not in space[name]:
                return None
            start[name] = _as_listed(space[name], value)
        elif settled.get(name, default_of(name)) != value:
            return None
    return start


def _start(name: str, parameter: Parameter) -> Scalar:
    default = default_of(name)
    if parameter.default is not None:
        return _as_listed(parameter, parameter.default)
    if default in parameter:
        return _as_listed(parameter, default)
    if isinstance(parameter, Choices):
        return parameter.choices[0]
    middle = 0.0 if name == loss_ratio.NAME else parameter.middle()
    return parameter.nearest(middle, whole=kind_of(name) == "whole number")


def _as_listed(parameter: Parameter, value: Scalar) -> Scalar:
    """The choice that equals the value: 1 and 1.0 are one choice, written in one way."""
    if isinstance(parameter, Choices):
        return next(choice for choice in parameter.choices if choice == value)
    return value

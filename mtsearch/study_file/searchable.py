"""What a study may search or fix: the fields of `TrialConfig`, and `loss_ratio` in place of the two weights."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic.fields import FieldInfo

from mtsearch.config import TrialConfig
from mtsearch.study_file.loss_ratio import NAME, WEIGHTS, LossRatio, weights
from mtsearch.study_file.parameters import Scalar


def _fields() -> dict[str, FieldInfo]:
    fields = dict(TrialConfig.model_fields)
    return {**{name: fields.pop(name) for name in WEIGHTS}, **LossRatio.model_fields, **fields}


FIELDS = _fields()
"""By name, in the order in which they are asked for and shown."""

Kind = Literal["whole number", "number", "boolean", "text"]
_KINDS: dict[type, Kind] = {bool: "boolean", int: "whole number", float: "number", str: "text"}


def default_of(name: str) -> Scalar:
    """The value of a parameter that nobody names."""
    default: Scalar = FIELDS[name].default
    return default


def kind_of(name: str) -> Kind:
    """What the values of a parameter are."""
    return _KINDS[type(default_of(name))]


def check_value(name: str, value: object) -> None:
    """Whether a value is one of the parameter, whatever the others are.

    Raises:
        ValidationError: it is not; an error without location is about other fields.
    """
    model = LossRatio if name == NAME else TrialConfig
    model.model_validate({name: value})


def config_of(values: Mapping[str, Any]) -> TrialConfig:
    """The configuration of these values, a `loss_ratio` among them turned into the weights that it stands for.

    Raises:
        ValidationError: they make none.
    """
    if NAME not in values:
        return TrialConfig.model_validate(dict(values))
    ratio = LossRatio(loss_ratio=values[NAME]).loss_ratio
    rest = {name: value for name, value in values.items() if name != NAME}
    return TrialConfig.model_validate({**rest, **weights(ratio, TrialConfig.model_validate(rest).batch_size)})

"""What a study may search one parameter over: a range or a few choices, and where in it to start."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from mtsearch.study_file.mistakes import shown

Number = Annotated[int | float, Field(allow_inf_nan=False)]
Scalar = bool | int | float | str

NOT_STRICT = Field(strict=False)  # lists stand for tuples; what is in them stays strict


class Section(BaseModel):
    """A table of a study file: immutable, without unknown keys, and no value is converted into another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


GRID_TOLERANCE = Decimal("1e-8")
"""Of a step; Optuna's."""


class Range(Section):
    """An interval, both ends included; whole numbers where the parameter is one."""

    low: Number = Field(description="The lower end.")
    high: Number = Field(description="The upper end.")
    log: bool = Field(default=False, description="Sampled evenly on a logarithmic scale.")
    step: Number | None = Field(default=None, gt=0, description="Distance between neighbouring values, from `low` on.")
    default: Number | None = Field(default=None, description="Value from which the study starts.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low = {self.low} is above high = {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low} has no logarithm: make it positive or drop log")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other: drop one")
        return self

    @model_validator(mode="after")
    def _divided(self) -> Self:
        """`high` is reached in whole steps; where rounding alone is in the way, it is moved there."""
        if self.step is None:
            return self
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
        fitting = low + step * max(round((high - low) / step), 1 if high > low else 0)
        if fitting == high:
            return self
        if abs(fitting - high) > (high - low) * Decimal("1e-9"):
            whole = isinstance(self.low, int) and isinstance(self.step, int)
            nearest = int(fitting) if whole else float(fitting)
            raise ValueError(f"step = {self.step} does not divide high - low: make high = {nearest}")
        # NOTE: Optuna divides the decimals exactly and would drop the last step.
        object.__setattr__(self, "high", float(fitting))
        return self

    @model_validator(mode="after")
    def _starts_inside(self) -> Self:
        if self.default is not None and self.default not in self:
            raise ValueError(f"default = {self.default} is outside low ... high or between the steps")
        return self

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high and self._is_on_grid(value)

    def _is_on_grid(self, value: float) -> bool:
        if self.step is None:
            return True
        steps = (Decimal(str(value)) - Decimal(str(self.low))) / Decimal(str(self.step))
        return abs(steps - round(steps)) < GRID_TOLERANCE

    def extremes(self) -> tuple[Scalar, ...]:
        """The values that must be valid for all others to be."""
        return self.low, self.high

    def middle(self) -> float:
        """Half-way between the ends, on the scale on which it is sampled."""
        if self.log:
            return math.exp((math.log(self.low) + math.log(self.high)) / 2)
        return self.low + (self.high - self.low) / 2

    def nearest(self, value: float, whole: bool) -> int | float:
        """The value of the range, one of its steps if it has some, that is nearest.

        Args:
            value: anywhere.
            whole: only whole numbers are values.
        """
        inside = min(max(value, self.low), self.high)
        step = 1 if self.step is None and whole else self.step
        if step is None:
            return inside
        low, decimal = Decimal(str(self.low)), Decimal(str(step))
        on_grid = low + decimal * round((Decimal(str(inside)) - low) / decimal)
        return int(on_grid) if whole else min(float(on_grid), self.high)


class Choices(Section):
    """A few values; numbers have no order among them."""

    choices: tuple[Scalar, ...] = Field(min_length=1, strict=False, description="The values.")
    default: Scalar | None = Field(default=None, description="Value from which the study starts.")

    @model_validator(mode="before")
    @classmethod
    def _no_range(cls, raw: object) -> object:
        if isinstance(raw, Mapping):
            for key in Range.model_fields:
                if key in raw and key not in cls.model_fields:
                    raise ValueError(f"choices and {key} exclude each other: drop one")
        return raw

    @field_validator("choices")
    @classmethod
    def _different(cls, values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        if len(set(values)) < len(values):  # 1, 1.0 and true are equal
            raise ValueError("a choice is named twice")
        return values

    @model_validator(mode="after")
    def _starts_inside(self) -> Self:
        if self.default is not None and self.default not in self:
            raise ValueError(f"default = {shown(self.default)} is not among the choices")
        return self

    def __contains__(self, value: object) -> bool:
        return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in self.choices)

    def extremes(self) -> tuple[Scalar, ...]:
        """The values that must be valid for all others to be."""
        return self.choices


_FORMS: dict[type[Section], str] = {Range: "{low, high}", Choices: "{choices}"}


def _form(value: Any) -> str | None:
    if isinstance(value, Section):
        return _FORMS.get(type(value))
    if not isinstance(value, Mapping):
        return None
    return _FORMS[Choices if "choices" in value else Range]


# NOTE: without being told which form is meant, pydantic would try both and report the mistakes of either.
Parameter = Annotated[
    Annotated[Range, Tag(_FORMS[Range])] | Annotated[Choices, Tag(_FORMS[Choices])],
    Discriminator(
        _form,
        custom_error_type="no_parameter",
        custom_error_message="is no range: write {low = ..., high = ...} or {choices = [...]}",
    ),
]

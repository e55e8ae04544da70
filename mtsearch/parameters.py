"""What a study may search one parameter over: a range or a few choices."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mtsearch.definition_errors import first_error, shown

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


class Choices(Section):
    """A few values; numbers have no order among them."""

    choices: Annotated[tuple[Scalar, ...], Field(min_length=1, strict=False)]

    @field_validator("choices")
    @classmethod
    def _different(cls, values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        if len(set(values)) < len(values):  # 1, 1.0 and true are equal
            raise ValueError("a choice is named twice")
        return values

    def __contains__(self, value: object) -> bool:
        return value in self.choices

    def extremes(self) -> tuple[Scalar, ...]:
        """The values that must be valid for all others to be."""
        return self.choices


Parameter = Range | Choices


def make_parameter(name: str, value: object) -> Parameter:
    """The table under `space.NAME`, checked.

    Raises:
        ValueError: the first mistake, with its place.
    """
    # NOTE: pydantic would try both forms and report the mistakes of either.
    if not isinstance(value, Mapping):
        raise ValueError(
            f"space.{name} = {shown(value)} is no range: write {{low = ..., high = ...}} or {{choices = [...]}}"
        )
    form: type[Parameter] = Choices if "choices" in value else Range
    try:
        return form.model_validate(value)
    except ValidationError as error:
        raise ValueError(f"space.{name}: {first_error(error, value, form)}") from None

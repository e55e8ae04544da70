"""The values that a study may search for one parameter (a range or choices), and the base classes of tables."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from mtsearch.text import nearest, quote, shorten_middle

Number = Annotated[int | float, Field(allow_inf_nan=False)]
Scalar = bool | int | float | str

NOT_STRICT = Field(strict=False)  # lists stand for tuples; what is in them stays strict


class Section(BaseModel):
    """A table of a study file: immutable, without unknown keys, and no value is converted into another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


GRID_TOLERANCE = Decimal("1e-8")
"""Largest distance of a value from the grid, as a share of a step; the same as Optuna's."""


class Range(Section):
    """An interval of values, both ends included; only whole numbers if the parameter is a whole number."""

    low: Number = Field(description="The lower end.")
    high: Number = Field(description="The upper end.")
    log: bool = Field(default=False, description="Sampled evenly on a logarithmic scale.")
    step: Number | None = Field(default=None, gt=0, description="Distance between neighbouring values, from `low` on.")
    default: Number | None = Field(default=None, description="Value from which the study starts.")

    @model_validator(mode="after")
    def _require_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low = {self.low} is above high = {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low} has no logarithm: make it positive or remove log")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other: remove one")
        return self

    @model_validator(mode="after")
    def _require_whole_steps(self) -> Self:
        """Require that whole steps lead from `low` to `high`; correct `high` if it differs by rounding alone."""
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
    def _require_default_inside(self) -> Self:
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
        """Return the lowest and the highest value; if both are valid for the parameter, all values are."""
        return self.low, self.high

    def middle(self) -> float:
        """Return the middle of the range on its scale, linear or logarithmic."""
        if self.log:
            return math.exp((math.log(self.low) + math.log(self.high)) / 2)
        return self.low + (self.high - self.low) / 2

    def nearest(self, value: float, whole: bool) -> int | float:
        """Return the nearest value of the range, on one of its steps if it has a step.

        Args:
            value: any number.
            whole: True if only whole numbers are allowed.
        """
        inside = min(max(value, self.low), self.high)
        step = 1 if self.step is None and whole else self.step
        if step is None:
            return inside
        low, decimal = Decimal(str(self.low)), Decimal(str(step))
        on_grid = low + decimal * round((Decimal(str(inside)) - low) / decimal)
        return int(on_grid) if whole else min(float(on_grid), self.high)


class Choices(Section):
    """A few values to choose from; numbers among them have no order."""

    choices: tuple[Scalar, ...] = Field(min_length=1, strict=False, description="The values.")
    default: Scalar | None = Field(default=None, description="Value from which the study starts.")

    @model_validator(mode="before")
    @classmethod
    def _refuse_range_keys(cls, raw: object) -> object:
        if isinstance(raw, Mapping):
            for key in Range.model_fields:
                if key in raw and key not in cls.model_fields:
                    raise ValueError(f"choices and {key} exclude each other: remove one")
        return raw

    @field_validator("choices")
    @classmethod
    def _require_different(cls, values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        if len(set(values)) < len(values):  # 1, 1.0 and true are equal
            raise ValueError("a choice is named twice")
        return values

    @model_validator(mode="after")
    def _require_default_inside(self) -> Self:
        if self.default is not None and self.default not in self:
            raise ValueError(f"default = {quote(self.default)} is not among the choices")
        return self

    def __contains__(self, value: object) -> bool:
        return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in self.choices)

    def extremes(self) -> tuple[Scalar, ...]:
        """Return all choices; each of them must be valid for the parameter."""
        return self.choices


_FORMS: dict[type[Section], str] = {Range: "{low, high}", Choices: "{choices}"}


def _find_form(value: Any) -> str | None:
    if isinstance(value, Section):
        return _FORMS.get(type(value))
    if not isinstance(value, Mapping):
        return None
    return _FORMS[Choices if "choices" in value else Range]


# NOTE: the discriminator tells pydantic which form is meant; without it, pydantic tries both and reports the mistakes
# of both.
Parameter = Annotated[
    Annotated[Range, Tag(_FORMS[Range])] | Annotated[Choices, Tag(_FORMS[Choices])],
    Discriminator(
        _find_form,
        custom_error_type="no_parameter",
        custom_error_message="is not a range: write {low = ..., high = ...} or {choices = [...]}",
    ),
]


class VariantSection(Section):
    """A table with a `kind` and options; a subclass has a field for each option of any kind, None if not given.

    Attributes:
        defaults: options of each kind with their defaults.
    """

    defaults: ClassVar[Mapping[str, Mapping[str, Any]]]
    kind: str

    @model_validator(mode="before")
    @classmethod
    def _require_table(cls, raw: object) -> object:
        if isinstance(raw, str):
            raise ValueError(f'{quote(raw)} is not a table: write {{ kind = "{shorten_middle(raw)}" }}')
        return raw

    @model_validator(mode="after")
    def _require_options_of_kind(self) -> Self:
        known = self.defaults[self.kind]
        for name, value in self._given_options().items():
            if name not in known:
                hint = nearest(name, known) or ", which has no options"
                raise ValueError(f"{name} is not an option of {self.kind!r}{hint}")
            if value == known[name]:
                # NOTE: an option at its default is stored as not given, so that a study which was begun without it
                # can go on with a file that names the default.
                object.__setattr__(self, name, None)
        return self

    def _given_options(self) -> dict[str, Any]:
        return self.model_dump(exclude={"kind"}, exclude_none=True)

    def options(self) -> dict[str, Any]:
        """Return all options of this kind; those that are not given have their defaults."""
        return {**self.defaults[self.kind], **self._given_options()}

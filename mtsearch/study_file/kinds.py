"""A table of a study file whose other options depend on its `kind`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import model_validator

from mtsearch.study_file.mistakes import nearest, short, shown
from mtsearch.study_file.parameters import Section


class OfKind(Section):
    """A table with a `kind`; a subclass has a field for each option of any kind, None where it is not given.

    Attributes:
        defaults: the options of each kind with their defaults.
    """

    defaults: ClassVar[Mapping[str, Mapping[str, Any]]]
    kind: str

    @model_validator(mode="before")
    @classmethod
    def _a_table(cls, raw: object) -> object:
        if isinstance(raw, str):
            raise ValueError(f'{shown(raw)} is not a table: write {{ kind = "{short(raw)}" }}')
        return raw

    @model_validator(mode="after")
    def _of_the_kind(self) -> Self:
        known = self.defaults[self.kind]
        for name, value in self._given().items():
            if name not in known:
                hint = nearest(name, known) or ", which has none"
                raise ValueError(f"{name} is no option of {self.kind!r}{hint}")
            if value == known[name]:
                # NOTE: a study begun without the option goes on under a file that writes its default out.
                object.__setattr__(self, name, None)
        return self

    def _given(self) -> dict[str, Any]:
        return self.model_dump(exclude={"kind"}, exclude_none=True)

    def options(self) -> dict[str, Any]:
        """The options of the kind, those that are not given at their defaults."""
        return {**self.defaults[self.kind], **self._given()}

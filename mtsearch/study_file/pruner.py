"""Which trials are stopped before their last epoch: the kinds of pruners, and the options of each."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from mtsearch.study_file.kinds import OfKind
from mtsearch.study_file.mistakes import nearest, shown

# NOTE: MO-ASHA's paper has 1 and 3; what these save stands in the README, see tests/benchmarks/pruning.py.
_RUNGS: Mapping[str, Any] = {"grace": 2, "reduction": 2}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "halving": _RUNGS,
    "dominated": {**_RUNGS, "margin": 0.05},
}
"""The options of each kind with their defaults."""


def _known(kind: object) -> object:
    if isinstance(kind, str) and kind not in OPTIONS:
        raise ValueError(f"{shown(kind)} is no pruner{nearest(kind, OPTIONS)}")
    return kind


class Pruner(OfKind):
    """Which trials are stopped before their last epoch."""

    defaults: ClassVar = OPTIONS
    kind: Annotated[Literal["none", "halving", "dominated"], BeforeValidator(_known)] = Field(
        default="none",
        description="`none`; `halving`: the best half of the trials that came as far go on (MO-ASHA); `dominated`: "
        "only those are stopped that the front was better than at the same epoch in both objectives.",
    )
    grace: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Of `halving` and `dominated`: the first epoch at which a trial may be stopped; 2.",
    )
    reduction: int | None = Field(
        default=None,
        ge=2,
        le=100,
        description="Of `halving` and `dominated`: factor from each epoch at which it may be stopped to the next, and "
        "of `halving` one in so many goes on; 2.",
    )
    margin: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Of `dominated`: how much better, as a share of each objective's range at that epoch; 0.05.",
    )

    def conflict_with(self, sampler: str) -> str:
        """Why it cannot be used with that kind of sampler; empty where it can."""
        if self.kind == "none" or sampler != "gp":
            return ""
        return (
            f"study.pruner: {self.kind!r} stops trials, of which sampler 'gp' learns nothing but that they are worse "
            "than all others: take sampler 'tpe', or pruner 'none'"
        )

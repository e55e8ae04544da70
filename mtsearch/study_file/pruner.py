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
    """Which trials are stopped before their last epoch.

    Attributes:
        kind: `none`; `halving`, where the best half of those that came as far go on (MO-ASHA); `dominated`, where only
            those are stopped that the front was better than at the same epoch in every objective.
        grace: of `halving` and `dominated`: the first epoch at which a trial is judged; 2.
        reduction: of `halving` and `dominated`: from each epoch at which it is judged to the next, by that factor, and
            of `halving` of how many one goes on; 2.
        margin: of `dominated`: how much better, as a share of each objective's range at that epoch; 0.05.
    """

    defaults: ClassVar = OPTIONS
    kind: Annotated[Literal["none", "halving", "dominated"], BeforeValidator(_known)] = "none"
    grace: Annotated[int, Field(ge=1, le=100_000)] | None = None
    reduction: Annotated[int, Field(ge=2, le=100)] | None = None
    margin: Annotated[float, Field(ge=0, le=1)] | None = None

    def conflict_with(self, sampler: str) -> str:
        """Why it cannot be used with that kind of sampler; empty where it can."""
        if self.kind == "none" or sampler != "gp":
            return ""
        return (
            f"study.pruner: {self.kind!r} stops trials, of which sampler 'gp' learns nothing but that they are worse "
            "than all others: take sampler 'tpe', or pruner 'none'"
        )

"""The front on the test rows: what its members reach there, and whether the validation rows were too kind to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mtsearch.evaluation.interval import Interval, intervals
from mtsearch.objectives import Metric
from mtsearch.search.front import FrontRow, dominates

if TYPE_CHECKING:
    from mtsearch.search.record import StudyRecord


@dataclass(frozen=True)
class Member:
    """A member of the front that was trained again on training and validation rows, and judged on test.

    Attributes:
        row: the trial, with its validation metrics.
        seeds: of its trainings.
        test: each metric over the seeds; empty where one of them failed.
        failures: why, by seed.
        optimism: by objective, how much worse the test mean is than validation was: above 0, validation was too good.
        dominated_by: members whose test means are no worse in every objective and better in one.
        alike: members that these seeds do not tell from it: in every objective the mean of each lies within the
            interval of the other; none where there is one seed.
    """

    row: FrontRow
    seeds: tuple[int, ...]
    test: Mapping[str, Interval]
    failures: Mapping[int, str]
    optimism: Mapping[str, float]
    dominated_by: tuple[int, ...] = ()
    alike: tuple[int, ...] = ()

    @property
    def on_front(self) -> bool:
        """Whether it was judged, and no other member's means dominate its own."""
        return bool(self.test) and not self.dominated_by


@dataclass(frozen=True)
class FrontOnTest:
    """A study's front on its test rows.

    Attributes:
        study: its name.
        objectives: its metrics.
        members: that were judged, in the order of the front.
        unjudged: the numbers of the others.
        knee: the knee's number; None without a front.
        baselines: what needs no search, learnt from the same rows, on the test rows.
        was_validated_on_test: the study chose on these very rows, so that nothing was held out from it.
    """

    study: str
    objectives: tuple[Metric, ...]
    members: tuple[Member, ...]
    unjudged: tuple[int, ...]
    knee: int | None
    baselines: Mapping[str, Mapping[str, float]]
    was_validated_on_test: bool

    @property
    def seeds(self) -> int:
        """The most trainings that a member has; 0 before a report."""
        return max((len(member.seeds) for member in self.members), default=0)


def front_on_test(record: StudyRecord, seeds: int | None = None) -> FrontOnTest:
    """What a study holds of its front on test, from the first `seeds` trainings of each member or from all."""
    judged = [member for row in record.front if (member := _member(record, row, seeds)).seeds]
    numbers = {member.row.trial for member in judged}
    return FrontOnTest(
        study=record.name,
        objectives=record.objectives,
        members=tuple(_among(member, judged, record) for member in judged),
        unjudged=tuple(row.trial for row in record.front if row.trial not in numbers),
        knee=record.knee.trial if record.knee else None,
        baselines=record.test_baselines,
        was_validated_on_test=record.definition.get("split", {}).get("validation") == "test",
    )


def on_test_json(found: FrontOnTest) -> dict[str, Any]:
    """For JSON: `front` is a list of `trial`, `params`, `validation`, `test` and how the member stands on test."""
    return {
        "study": found.study,
        "objectives": [metric.key for metric in found.objectives],
        "seeds": found.seeds,
        "front": [
            {
                "trial": member.row.trial,
                "params": dict(member.row.params),
                "seeds": list(member.seeds),
                "validation": dict(member.row.metrics),
                "test": {key: asdict(interval) for key, interval in member.test.items()},
                "optimism": dict(member.optimism),
                "on_front": member.on_front,
                "dominated_by": list(member.dominated_by),
                "alike": list(member.alike),
                "failures": {str(seed): reason for seed, reason in member.failures.items()},
            }
            for member in found.members
        ],
        "unjudged": list(found.unjudged),
        "baselines": {name: dict(metrics) for name, metrics in found.baselines.items()},
    }


def _member(record: StudyRecord, row: FrontRow, seeds: int | None) -> Member:
    judged = record.judged.get(row.trial, {})
    first = int(record.configs.get(row.trial, {}).get("seed", 0))
    # Its own seed and the ones after it, in that order, past the largest too.
    numbers = sorted(judged, key=lambda seed: (seed - first) % 2**31)
    numbers = [seed for seed in numbers if seeds is None or (seed - first) % 2**31 < seeds]
    failures = {seed: judged[seed].failure for seed in numbers if judged[seed].failure}
    test = intervals([judged[seed].metrics for seed in numbers]) if numbers and not failures else {}
    optimism = {
        metric.key: metric.sign * (test[metric.key].mean - value)
        for metric, value in zip(record.objectives, row.values, strict=True)
        if test
    }
    return Member(row, tuple(numbers), test, failures, optimism)


def _among(member: Member, members: Sequence[Member], record: StudyRecord) -> Member:
    """The member as it stands among the others."""
    if not member.test:
        return member
    others = [other for other in members if other.test and other.row.trial != member.row.trial]
    point = _means(member, record.objectives)
    better = [other for other in others if dominates(_means(other, record.objectives), point, record.signs)]
    alike = [other for other in others if _is_alike(member, other, record.objectives)]
    return replace(
        member,
        dominated_by=tuple(other.row.trial for other in better),
        alike=tuple(other.row.trial for other in alike),
    )


def _means(member: Member, objectives: tuple[Metric, ...]) -> FrontRow:
    return FrontRow(member.row.trial, tuple(member.test[metric.key].mean for metric in objectives), {}, {})


def _is_alike(member: Member, other: Member, objectives: tuple[Metric, ...]) -> bool:
    if min(len(member.seeds), len(other.seeds)) < 2:
        return False
    pairs = [(member.test[metric.key], other.test[metric.key]) for metric in objectives]
    return all(a.low <= b.mean <= a.high and b.low <= a.mean <= b.high for a, b in pairs)

"""The front on the test rows in words."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from mtsearch.objectives import Metric
from mtsearch.report.on_test import FrontOnTest, Member
from mtsearch.report.references import against_best
from mtsearch.report.wording import amount, count, plain, trials

_PAIRS = 6
"""Of the pairs that cannot be told apart so many are named; JSON has all."""


def on_test_verdict(found: FrontOnTest) -> Iterator[str]:
    """What a reader should take along, a sentence each; nothing where no member was trained."""
    judged = [member for member in found.members if member.test]
    if judged:
        yield from _of_judged(found, judged)
    yield from (_failed(member) for member in found.members if member.failures)
    if found.members and found.was_validated_on_test:
        yield "This study validates on its test rows: what is on its front was chosen on them."
    if found.members and found.unjudged:
        yield f"Not judged yet: {trials(found.unjudged)}."


def _of_judged(found: FrontOnTest, judged: Sequence[Member]) -> Iterator[str]:
    yield from _staying(found, judged)
    yield from (_fallen(found, member) for member in judged if member.dominated_by)
    if pairs := _pairs(judged):
        yield f"These seeds do not tell apart: {_shortly(pairs)}."
    for metric in found.objectives:
        yield _optimism(metric, judged)
    yield from _against_baselines(found, judged)


def _staying(found: FrontOnTest, judged: Sequence[Member]) -> Iterator[str]:
    staying = sum(member.on_front for member in judged)
    if len(found.objectives) == 1:
        # A single best trial cannot fall behind another.
        if len(judged) > 1:
            yield f"Of the {len(judged)} trials that are best on validation {staying} {_is(staying)} best on test."
    elif staying == len(judged):
        yield f"On test no member of the front falls off: {count(staying, 'trial')}."
    else:
        yield f"On test {staying} of the {len(judged)} members of the front stay on it."


def _fallen(found: FrontOnTest, member: Member) -> str:
    others, verb = trials(member.dominated_by), _is(len(member.dominated_by))
    apart = set(member.dominated_by) - set(member.alike)
    doubt = "" if apart or len(member.seeds) < 2 else ", within the intervals though"
    what = "falls off" if len(found.objectives) > 1 else "falls behind"
    return f"Trial {member.row.trial} {what}: {others} {verb} better on test{doubt}."


def _is(amount: int) -> str:
    return "is" if amount == 1 else "are"


def _failed(member: Member) -> str:
    seed, reason = next(iter(member.failures.items()))
    return f"Trial {member.row.trial} could not be judged: its training with seed {seed} failed ({plain(reason)})."


def _pairs(judged: Sequence[Member]) -> list[str]:
    numbers = [member.row.trial for member in judged]
    return [
        trials([member.row.trial, other])
        for place, member in enumerate(judged)
        for other in member.alike
        if other in numbers[place:]
    ]


def _shortly(pairs: Sequence[str]) -> str:
    more = [f"{count(len(pairs) - _PAIRS, 'further pair')}"] if len(pairs) > _PAIRS else []
    return "; ".join([*pairs[:_PAIRS], *more])


def _optimism(metric: Metric, judged: Sequence[Member]) -> str:
    values = [member.optimism[metric.key] for member in judged]
    mean = fmean(values)
    span = f"from {amount(min(values), metric)} to {amount(max(values), metric)}" if len(values) > 1 else ""
    if min(values) > 0:
        said = "validation was too good"
    elif max(values) > 0:
        said = "validation was too good for some"
    else:
        said = "test is no worse, with more rows trained on"
    if all(_within(member, metric) for member in judged if member.optimism[metric.key] > 0) and max(values) > 0:
        said += ", within the intervals though"
    shown = f"Optimism of {metric.label}: {amount(mean, metric)}"
    return f"{shown} on average, {span}: {said}." if span else f"{shown}: {said}."


def _within(member: Member, metric: Metric) -> bool:
    """Whether its validation value lies within the interval over the seeds on test, where there are several."""
    found = member.test[metric.key]
    validation = found.mean - metric.sign * member.optimism[metric.key]
    return len(member.seeds) > 1 and found.low <= validation <= found.high


def _against_baselines(found: FrontOnTest, judged: Sequence[Member]) -> Iterator[str]:
    """Of the members that validation would have chosen, since nothing is chosen on test."""
    for index, metric in enumerate(found.objectives):
        best = min(judged, key=lambda member: metric.sign * member.row.values[index])
        said = against_best(metric, best.test[metric.key].mean, found.baselines)
        yield f"Trial {best.row.trial}, best {metric.label} on validation: {said}."

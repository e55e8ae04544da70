"""What became of a study's trials, in lines under its front."""

from collections import Counter
from collections.abc import Iterator

from mtsearch.objectives import Metric
from mtsearch.report.wording import count, number, plain, shortened
from mtsearch.search.record import StudyRecord

_KINDS = {"model": "failed", "interrupted": "interrupted", "died": "died", "error": "broken off by an error"}
_SHOWN = 6


def outcome_lines(record: StudyRecord) -> Iterator[str]:
    """How many trials came to what, why the others did not, what the study started from."""
    yield ", ".join([count(record.counting, "trial"), *_states(record), _hypervolume(record)])
    yield from _reasons(record)
    if record.listed:
        yield _listed(record)


def _states(record: StudyRecord) -> list[str]:
    kinds: Counter[str] = Counter(failure.kind for failure in record.failures)
    named = [f"{kinds[kind]} {word}" for kind, word in _KINDS.items() if kinds[kind]]
    if pruned := record.states.get("pruned"):
        named.insert(0, f"{pruned} pruned")
    return [*named, f"{len(record.infeasible)} over [constraints]"] if record.infeasible else named


def _hypervolume(record: StudyRecord) -> str:
    volume = f"hypervolume {number(record.hypervolume)}"
    if "chance" not in record.baselines:
        return volume
    corners = zip(record.objectives, record.baseline_values("chance"), record.ideal, strict=True)
    box = ", ".join(_side(metric, chance, ideal) for metric, chance, ideal in corners)
    what = "box" if len(record.objectives) > 1 else "way"
    return f"{volume} (of the {what} from chance to ideal: {box})"


def _side(metric: Metric, chance: float, ideal: float) -> str:
    return f"{metric.label} {number(chance)} to {ideal:g}"


def _reasons(record: StudyRecord) -> Iterator[str]:
    failures = [failure for failure in record.failures if failure.kind != "interrupted"]
    reasons = Counter((_KINDS[failure.kind], failure.reason) for failure in failures)
    for (word, reason), times in reasons.most_common(_SHOWN):
        yield f"{times} {word}: {shortened(plain(reason), 200)}"
    if len(reasons) > _SHOWN:
        yield f"and {count(len(reasons) - _SHOWN, 'other reason')}"


def _listed(record: StudyRecord) -> str:
    on_front = {row.trial for row in record.front}
    front = "on the front" if len(record.objectives) > 1 else "the best"
    named = [
        f"{plain(label)} = trial {trial}{f' ({front})' if trial in on_front else ''}"
        for trial, label in record.listed.items()
    ]
    more = [f"and {len(named) - _SHOWN} more"] if len(named) > _SHOWN else []
    return f"listed: {', '.join([*named[:_SHOWN], *more])}"

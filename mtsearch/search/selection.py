"""Select a trial of a study by a pick such as `knee` or `rmse<=0.93`, and make its `Export`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from mtsearch.errors import PickError, StorageError
from mtsearch.metrics import Metric, find_metric
from mtsearch.models.trainer import MODEL_SOURCE
from mtsearch.search.pareto import FrontRow, dominates, knee
from mtsearch.search.results import StudyResults
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.export import Export, Provenance
from mtsearch.study_file.sections import DataSection, ModelSection, SplitSection
from mtsearch.study_file.tasks import TaskSection
from mtsearch.study_file.validation import validation_messages
from mtsearch.text import nearest, quote, shorten_middle

KNEE = "knee"

_TRIAL = re.compile(r"trial:\s*(\d{1,18})", re.ASCII)
_RULE = re.compile(r"([\w.]+)\s*([<>]=)\s*(\S+)", re.ASCII)


@dataclass(frozen=True)
class Pick:
    """The parsed form of a pick, the user's request for one trial of a study.

    Attributes:
        kind: the knee, the best trial in an objective, the trial of a number, or the best that meets a rule.
        index: of the objective that the pick names, 0-based; a rule's bound is on this objective.
        bound: the worst value that meets the rule.
        trial: number of the trial.
    """

    kind: Literal["knee", "best", "trial", "rule"]
    index: int = 0
    bound: float = math.nan
    trial: int = -1


@dataclass(frozen=True)
class Selection:
    """A selected trial with its neighbours on the front.

    Attributes:
        asked: the pick as the user wrote it.
        pick: its parsed form.
        row: the selected trial.
        neighbours: per objective, the trial of the front that is better in it by the least; None if no trial is
            better, and for a trial that is not on the front.
        equals: further trials of the front with the same values.
        dominated_by: the trials of the front that are no worse in every objective and better in one.
    """

    asked: str
    pick: Pick
    row: FrontRow
    neighbours: tuple[FrontRow | None, ...]
    equals: tuple[FrontRow, ...]
    dominated_by: tuple[FrontRow, ...]


def parse_pick(text: str, objectives: tuple[Metric, ...]) -> Pick:
    """Parse a pick: `knee`, an objective's name, `trial:17`, or a rule such as `rmse<=0.93`.

    Raises:
        PickError: the text is none of these, or a rule that asks for the worse side of an objective.
    """
    keys = [metric.key for metric in objectives]
    text = text.strip()
    if text == KNEE:
        return Pick("knee")
    if key := find_metric(text, {metric.key: metric for metric in objectives}):
        return Pick("best", index=keys.index(key))
    if match := _TRIAL.fullmatch(text):
        return Pick("trial", trial=int(match[1]))
    if match := _RULE.fullmatch(text):
        return _parse_rule(match, objectives, text)
    # A single word may be a misspelt key: name the nearest one.
    word = re.fullmatch(r"[\w.]+", text)
    meant = nearest(text, [KNEE, *keys]) if word else ""
    raise PickError(f"pick {quote(text)} cannot be read{meant}", describe_picks(objectives))


def describe_picks(objectives: tuple[Metric, ...]) -> str:
    """Return a sentence for the user on the ways to write a pick, for a study with these objectives."""
    keys = ", ".join(metric.key for metric in objectives)
    return (
        f"write {KNEE}, {keys}, trial:N, or a rule: {_join_with_or([_example_rule(metric) for metric in objectives])}"
    )


def select(results: StudyResults, asked: str = KNEE) -> Selection:
    """Select the trial of a study that a pick asks for; of equal trials the first on the front.

    A rule selects among the trials of the front that meet it: with two objectives the best in the other one, with more
    the knee of these trials. With one objective they are all equal.

    Raises:
        PickError: the pick cannot be parsed, the study has no front, or no trial meets the pick.
    """
    pick = parse_pick(asked, results.objectives)
    row = _find_row(results, pick.trial) if pick.kind == "trial" else _select_from_front(results, pick, asked)
    dominated_by = tuple(other for other in results.front if dominates(other, row, results.signs))
    equals = tuple(other for other in results.front if other.values == row.values and other.trial != row.trial)
    neighbours = tuple(
        None if dominated_by else _next_better(results, row, index) for index in range(len(results.objectives))
    )
    return Selection(asked.strip(), pick, row, neighbours, equals, dominated_by)


def meets(row: FrontRow, pick: Pick, signs: tuple[float, ...]) -> bool:
    """Tell whether a trial is at least as good as the bound of a rule."""
    return _excess(row, pick, signs) <= 0


def _parse_rule(match: re.Match[str], objectives: tuple[Metric, ...], text: str) -> Pick:
    """Parse a rule; raise a PickError for an unknown objective, a bound that is not finite, or the wrong side."""
    name, operator, number = match.groups()
    metrics = {metric.key: metric for metric in objectives}
    key = find_metric(name, metrics)
    if key is None:
        problem = f"pick {quote(text)}: {shorten_middle(name)} is not an objective of the study"
        raise PickError(problem, f"name {_join_with_or(list(metrics))}")
    metric = metrics[key]
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise PickError(
            f"pick {quote(text)}: {quote(number)} is not a finite number", f"for example {_example_rule(metric)}"
        )
    right = _rule_operator(metric)
    if operator != right:
        which = "lower" if right == "<=" else "higher"
        raise PickError(
            f"pick {quote(text)} asks for the worse side: {which} {key} is better", f"write {key}{right}{number}"
        )
    return Pick("rule", objectives.index(metric), bound)


def _rule_operator(metric: Metric) -> str:
    """Return the operator that asks for the better side of an objective."""
    return "<=" if metric.direction == "minimize" else ">="


def _example_rule(metric: Metric) -> str:
    """Return an example of a rule on an objective, for an error message."""
    return f'"{metric.key}{_rule_operator(metric)}{0.93 if metric.direction == "minimize" else 0.38}"'


def _join_with_or(words: Sequence[str]) -> str:
    """Join them as "a", "a or b", "a, b or c"."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def require_front(results: StudyResults) -> list[FrontRow]:
    """Return the front of a study, which has at least one trial.

    Raises:
        PickError: the front is empty; the message says why.
    """
    if results.front:
        return results.front
    if results.infeasible:
        raise PickError(
            f"study {results.name}: no trial keeps the [constraints], so there is no front",
            "widen [constraints] in a study of another name (--study)",
        )
    states = ", ".join(f"{amount} {state}" for state, amount in results.states.items()) or "none"
    raise PickError(f"study {results.name} has no front (trials: {states})", "`mtsearch run` adds trials to it")


def _select_from_front(results: StudyResults, pick: Pick, asked: str) -> FrontRow:
    """Return the trial of the front that the pick asks for; raise a PickError if no trial meets its rule."""
    front, signs = require_front(results), results.signs
    if pick.kind == "knee" and results.knee is not None:
        return results.knee
    if pick.kind == "best":
        return min(front, key=lambda row: signs[pick.index] * row.values[pick.index])
    # The pick is a rule: of the trials that meet it, select the best in the other objective, or their knee.
    meeting = [row for row in front if meets(row, pick, signs)]
    if not meeting:
        raise _unmet_error(results, pick, asked.strip())
    if len(signs) == 2:
        other = 1 - pick.index
        return min(meeting, key=lambda row: signs[other] * row.values[other])
    # There is a knee, since a trial meets the rule; only the type of `knee` allows for none.
    return knee(meeting, signs) or meeting[0]


def _excess(row: FrontRow, pick: Pick, signs: tuple[float, ...]) -> float:
    """Return how much worse than the rule's bound a trial is, in the objective's unit; 0 or less if it meets it."""
    return signs[pick.index] * row.values[pick.index] - signs[pick.index] * pick.bound


def _unmet_error(results: StudyResults, pick: Pick, asked: str) -> PickError:
    """Return the error that no trial of the front meets a rule; it names the trial that misses the bound by least."""
    closest = min(results.front, key=lambda row: _excess(row, pick, results.signs))
    metric, value = results.objectives[pick.index], closest.values[pick.index]
    unit = f" {metric.unit}" if metric.unit else ""
    away = f"{_excess(closest, pick, results.signs):.2g}{unit}"
    return PickError(
        f"no trial of the front meets {asked}: the nearest is trial {closest.trial} with {metric.label} "
        f"{value:.6g}{unit}, {away} away",
        f"loosen the rule, use --pick trial:{closest.trial}, or run more trials",
    )


def _find_row(results: StudyResults, number: int) -> FrontRow:
    """Return the complete trial of this number; raise a PickError that says why if it cannot be selected."""
    row = next((row for row in results.rows if row.trial == number), None)
    if row is None:
        raise PickError(
            f"study {results.name}: {_why_not_selectable(results, number)}", "name a complete trial, or pick the knee"
        )
    return row


def _why_not_selectable(results: StudyResults, number: int) -> str:
    """Return the reason why a trial that is not among the complete, feasible ones cannot be selected."""
    failure = next((failure for failure in results.failures if failure.trial == number), None)
    if failure:
        return f"trial {number} failed ({failure.reason})"
    if number in results.infeasible:
        return f"trial {number} exceeds the [constraints]"
    trials = sum(results.states.values())
    if number >= trials:
        held = f"its trials are 0 to {trials - 1}" if trials else "it has no trials"
        return f"there is no trial {number}; {held}"
    return f"trial {number} is not complete"


def _next_better(results: StudyResults, row: FrontRow, index: int) -> FrontRow | None:
    """Return the trial of the front that is better in an objective by the least; None if none is better."""
    sign = results.signs[index]
    better = [other for other in results.front if sign * other.values[index] < sign * row.values[index]]
    return max(better, key=lambda other: sign * other.values[index], default=None)


Model = TypeVar("Model", bound=BaseModel)


def make_export(results: StudyResults, selection: Selection) -> Export:
    """Return the export of a selected trial: its stored configuration, data, split and provenance.

    Fields that are newer than the study have their defaults.

    Raises:
        StorageError: a stored part is missing, or this version cannot read it.
    """
    number, definition, study = selection.row.trial, results.definition, results.definition["study"]
    config = _validate_stored(TrialConfig, results.configs.get(number), results, f"configuration of trial {number}")
    provenance = results.provenance_of(number)
    trainer = provenance.get("trainer", {})
    # The export keeps the part of the run's provenance that a retraining compares or reports.
    provenance = {
        "study": results.name,
        "trial": number,
        "pick": selection.asked,
        "objectives": [metric.key for metric in results.objectives],
        "best_epoch": results.best_epochs.get(number, config.epochs),
        "repeats": max(1, len(results.repeats.get(number, ()))),
        "data_fingerprint": provenance.get("data", {}).get("fingerprint"),
        "split_fingerprint": provenance.get("split", {}).get("fingerprint"),
        "source_fingerprint": trainer.get(MODEL_SOURCE),
        "study_seed": study.get("seed"),
        "threads": trainer.get("threads"),
        "device": trainer.get("device"),
        "python": provenance.get("python"),
        "exported": datetime.now(UTC).replace(microsecond=0),
        "exported_by": version("mtsearch"),
        "metrics": dict(selection.row.metrics),
        "params": dict(selection.row.params),
        "packages": dict(provenance.get("packages", {})),
    }
    return Export(
        config=config,
        model=_validate_stored(ModelSection, model, results, "[model]") if (model := definition.get("model")) else None,
        data=_validate_stored(DataSection, definition.get("data", {}), results, "[data]"),
        split=_validate_stored(SplitSection, definition.get("split", {}), results, "[split]"),
        tasks={
            name: _validate_stored(TaskSection, task, results, f"[tasks.{name}]")
            for name, task in definition.get("tasks", {}).items()
        },
        provenance=_validate_stored(Provenance, provenance, results, "provenance"),
    )


def _validate_stored(model: type[Model], stored: Mapping[str, Any] | None, results: StudyResults, part: str) -> Model:
    """Return a stored part of the study as its model; raise a StorageError if it is missing or not valid."""
    raw = dict(stored or {})
    if stored is None:
        raise StorageError(f"study {results.name}: {part} is not stored", "choose another trial")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problem = f"study {results.name}: {part}: {validation_messages(error, raw, model)[0]}"
        raise StorageError(problem, "a newer mtsearch may have stored it: upgrade") from None

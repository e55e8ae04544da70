"""What the page's script knows of a study beside its figures: parameters to colour by, and what a click shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mtsearch.report.commands import command
from mtsearch.report.drawing import rounded
from mtsearch.report.parameters_view import dimensions
from mtsearch.report.progress import curves
from mtsearch.report.wording import axis_title, number, plain

if TYPE_CHECKING:
    from mtsearch.search.record import StudyRecord


def page_data(record: StudyRecord, storage: str | None) -> str:
    """The data as JSON; every array that belongs to trials is in the order of `trials`.

    Args:
        record: of the study.
        storage: for the commands, see `command`.
    """
    trials = [row.trial for row in record.rows]
    shown = {
        "command": [command("export", record.name, storage), "-o best.toml"],
        "objectives": [{"label": metric.label, "title": axis_title(metric)} for metric in record.objectives],
        "trials": trials,
        "values": [rounded([row.values[index] for row in record.rows]) for index in range(len(record.objectives))],
        "params": _columns(record),
        "colours": [
            {
                "name": plain(each.name),
                "log": each.log,
                "choices": [plain(number(choice)) for choice in each.choices],
                "values": _numbers(each.values, each.choices, trials),
            }
            for each in dimensions(record)
        ],
        "curves": {
            trial: [curve.epochs, *(rounded(values) for values in curve.values)]
            for trial, curve in curves(record).items()
        },
        "knee": record.knee.trial if record.knee else None,
    }
    return json.dumps(shown, separators=(",", ":"), allow_nan=False)


def _columns(record: StudyRecord) -> list[dict[str, Any]]:
    """Every parameter as text; those that never varied too."""
    names = dict.fromkeys(name for row in record.rows for name in row.params)
    return [
        {
            "name": plain(name),
            "values": [number(row.params[name]) if name in row.params else None for row in record.rows],
        }
        for name in names
    ]


def _numbers(values: Any, choices: tuple[Any, ...], trials: list[int]) -> list[Any]:
    found = [values.get(trial) for trial in trials]
    return [None if value is None else choices.index(value) for value in found] if choices else rounded(found)

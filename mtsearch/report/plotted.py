"""What `mtsearch plot` draws, as rows and as JSON."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from mtsearch.report.on_test import front_on_test, on_test_json
from mtsearch.report.progress import curves, duration, hypervolume_steps, on_front
from mtsearch.report.tables import spread_columns, spreads

if TYPE_CHECKING:
    from mtsearch.search.record import StudyRecord


def plotted(record: StudyRecord) -> dict[str, Any]:
    """Everything on the page as plain values for JSON; curves as epochs, `report` as `mtsearch report` prints it."""
    keys = [metric.key for metric in record.objectives]
    return {
        "study": record.name,
        "objectives": keys,
        "hypervolume": record.hypervolume,
        "baselines": {name: dict(zip(keys, record.baseline_values(name), strict=True)) for name in record.baselines},
        "importance": {key: dict(shares) for key, shares in record.importances.items()},
        "trials": [
            {
                **flat,
                "params": dict(row.params),
                "metrics": dict(row.metrics),
                **spreads(record, row.trial),
            }
            for row, flat in zip(record.rows, _flat(record), strict=True)
        ],
        "curves": [
            {"trial": trial, "epochs": list(curve.epochs), **dict(zip(keys, map(list, curve.values), strict=True))}
            for trial, curve in curves(record).items()
        ],
        "report": on_test_json(front_on_test(record)) if record.judged else None,
        "failures": [{"trial": each.trial, "reason": each.reason, "counted": each.counted} for each in record.failures],
    }


def plotted_csv(record: StudyRecord) -> str:
    """The complete trials as RFC 4180 text with a header: number, objectives, what the plots say, each parameter.

    Behind all stands what `spread_columns` has.
    """
    params = list(dict.fromkeys(name for row in record.rows for name in row.params))
    columns = {row.trial: spread_columns(record, row.trial) for row in record.rows}
    spread = list(dict.fromkeys(name for own in columns.values() for name in own))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    keys = [metric.key for metric in record.objectives]
    writer.writerow(["trial", *keys, "front", "knee", "hypervolume", "minutes", "seconds", *params, *spread])
    for row, flat in zip(record.rows, _flat(record), strict=True):
        values = [row.params.get(name) for name in params] + [columns[row.trial].get(name) for name in spread]
        writer.writerow([*flat.values(), *values])
    return text.getvalue()


def _flat(record: StudyRecord) -> list[dict[str, Any]]:
    """Per complete trial what the plots say of it beside its parameters."""
    keys = [metric.key for metric in record.objectives]
    steps, front = {step.trial: step for step in hypervolume_steps(record)}, on_front(record)
    knee = record.knee.trial if record.knee else None
    return [
        {
            "trial": row.trial,
            **dict(zip(keys, row.values, strict=True)),
            "front": row.trial in front,
            "knee": row.trial == knee,
            "hypervolume": steps[row.trial].volume if steps else None,
            "minutes": steps[row.trial].minutes if steps else None,
            "seconds": duration(record, row.trial),
        }
        for row in record.rows
    ]

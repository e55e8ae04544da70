"""What a retraining came to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mtsearch.evaluation.interval import Interval
from mtsearch.export_file import Export
from mtsearch.trial import EpochMetrics

On = Literal["train", "train+validation", "all"]

_NOT_JUDGED = "trained on every row: none are left to judge it on; `trial` has the validation metrics of the trial"


@dataclass(frozen=True, eq=False)
class Retrained:
    """A configuration that was trained again.

    Attributes:
        folder: absolute path of the model folder; the model is that of the first seed.
        export: what was trained.
        on: which rows were trained on: the trial's own, its validation rows too, or the test rows as well.
        seeds: one per training.
        epochs: of each.
        device: that trained, for people.
        threads: of it.
        users: that have a training row.
        items: that have a training row.
        catalogue: items that are ranked.
        rating_range: lowest and highest training rating, in the unit of `feedback`.
        rows: amounts of rows by what they were used for: `train`, `test`.
        test: metrics on the test rows, each seed's model judged once; empty where all rows were trained on.
        validation: metrics on the validation rows; empty where they were trained on.
        baselines: what needs no search, learnt from the same rows, on the test rows.
        curve: the first seed's epochs.
        feedback: what a row says: explicit, binary or count.
    """

    folder: Path
    export: Export
    on: On
    seeds: tuple[int, ...]
    epochs: int
    device: str
    threads: int
    users: int
    items: int
    catalogue: int
    rating_range: tuple[float, float]
    rows: Mapping[str, int]
    test: Mapping[str, Interval] = field(default_factory=dict)
    validation: Mapping[str, Interval] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    curve: tuple[EpochMetrics, ...] = ()
    feedback: str = "explicit"

    @property
    def repeats_the_trial(self) -> bool:
        """Whether the validation metrics are a second measurement of what the export says of its trial.

        With patience each of several seeds ended at an epoch of its own, and here all end at one.
        """
        alike = len(self.seeds) == 1 or not self.export.config.patience
        return bool(self.validation) and len(self.seeds) == self.export.provenance.repeats and alike


def metrics_json(result: Retrained) -> dict[str, Any]:
    """What `metrics.json` holds."""
    return {
        "on": result.on,
        "seeds": list(result.seeds),
        "epochs": result.epochs,
        **({} if result.test else {"note": _NOT_JUDGED}),
        "test": {key: asdict(interval) for key, interval in result.test.items()},
        "validation": {key: asdict(interval) for key, interval in result.validation.items()},
        "trial": dict(result.export.provenance.metrics),
        "baselines": {name: dict(metrics) for name, metrics in result.baselines.items()},
    }


def curve_json(result: Retrained) -> list[dict[str, Any]]:
    """What `curve.json` holds: an object per epoch, without what was not measured."""
    return [{key: value for key, value in asdict(epoch).items() if value != {}} for epoch in result.curve]

"""Compare the chosen configurations with other models, on the test rows of splits that no search has used.

    python -m tests.benchmarks.reference [--splits 5] [--seeds 1] [--config FILE ...] [--json FILE]

On each split the exported configurations (by default those of dashboards/ml-100k), the tutorial's three models, the
baselines, and SVD and SVD++ of scikit-surprise (`pip install '.[reference]'`) learn from training and validation rows
and are evaluated once on the test rows. Prints means and 95 % intervals over the splits as a Markdown table. Goes on
where it was ended, as long as --json is the same. SVD++, half a minute a split, comes last; all of it takes about
8 minutes on 2 cores.

The configurations were chosen on another split of the same ratings (seed 42): their weights never saw a test row of
these splits, their hyperparameters were chosen on rows of which a part lies here in test.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from mtsearch.data import Split, load, make_split
from mtsearch.evaluation import Evaluator
from mtsearch.evaluation.baselines import BASELINES, TaskBaselines
from mtsearch.evaluation.confidence import Interval, intervals
from mtsearch.models import Device, JointTrainer
from mtsearch.retraining import retrained_epochs
from mtsearch.retraining.members import train_seed
from mtsearch.search.space import Space
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import StudyDefinition
from mtsearch.study_file.export import Export
from mtsearch.study_file.sections import DataSection, SplitSection

SPLITS = (101, 102, 103, 104, 105)
METRICS = ("rmse", "rmse_clipped", "top_100", "top_100_unseen")
CHOSEN = [Path("dashboards/ml-100k") / f"{name}.toml" for name in ("best", "rmse", "top_100")]

Metrics = Mapping[str, float]
Figures = dict[str, dict[str, dict[str, float]]]
"""Metrics by split seed and model."""


@dataclass(frozen=True)
class Model:
    """A model of the table: a way to learn from a split and to be evaluated on it.

    Attributes:
        name: in the table; in the file with what tells it from another of that name.
        evaluate: function from a split of one seed, in its final form, to the metrics on its test rows.
        is_slow: comes last.
        version: what it depends on beside its name.
    """

    name: str
    evaluate: Callable[[Split, "Trainers"], Metrics]
    is_slow: bool = False
    version: str = ""

    @property
    def key(self) -> str:
        """Name of the model in the file."""
        return f"{self.name} {self.version}".strip()


class Trainers:
    """The joint trainer of the current split, made when it is first needed."""

    def __init__(self) -> None:
        self._last: JointTrainer | None = None

    def of(self, split: Split) -> JointTrainer:
        if self._last is None or self._last.split is not split:
            self._last = JointTrainer(split, Device.default(), validate=False)
        return self._last


def main() -> None:
    """Evaluate the missing models, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, choices=range(1, len(SPLITS) + 1), default=len(SPLITS))
    parser.add_argument("--seeds", type=int, default=1, help="of each of mtsearch's models on each split")
    parser.add_argument("--config", type=Path, nargs="+", metavar="FILE", help="exported by `mtsearch export`")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keeps every figure as it comes")
    options = parser.parse_args()
    files = options.config or [path for path in CHOSEN if path.exists()]
    models = all_models(files, options.seeds)
    figures: Figures = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    seeds = SPLITS[: options.splits]
    with suppress(KeyboardInterrupt):
        evaluate_models(models, seeds, figures, options.json)
    print(table(models, [figures.get(str(seed), {}) for seed in seeds]))


def all_models(files: list[Path], seeds: int) -> list[Model]:
    """Return all models, in the order of the table."""
    chosen = [_chosen(path, Export.load(path), seeds) for path in files]
    return [*chosen, *_tutorial(seeds), *_baselines(), *_surprise()]


def evaluate_models(models: list[Model], seeds: tuple[int, ...], figures: Figures, path: Path | None) -> None:
    """Add the missing metrics to `figures`, and write them after each model; quick models on all splits come first."""
    interactions = load(DataSection())
    splits = {seed: make_split(interactions, SplitSection(seed=seed)).final() for seed in seeds}
    trainers = Trainers()
    for is_slow in (False, True):
        for seed, split in splits.items():
            done = figures.setdefault(str(seed), {})
            for model in models:
                if model.is_slow == is_slow and model.key not in done:
                    done[model.key] = dict(model.evaluate(split, trainers))
                    print(
                        f"split {seed}: {model.name}: rmse {done[model.key]['rmse']:.4f}", file=sys.stderr, flush=True
                    )
                    if path:
                        _write(path, figures)


def table(models: list[Model], by_split: list[dict[str, dict[str, float]]]) -> str:
    """Return a Markdown table with a row per model, over the splits that it was evaluated on."""
    lines = [f"| | splits | {' | '.join(METRICS)} |", f"|--|--|{'--|' * len(METRICS)}"]
    for model in models:
        results = [split[model.key] for split in by_split if model.key in split]
        if results:
            found = intervals(results)
            cells = " | ".join(_cell(found[key]) for key in METRICS)
            lines.append(f"| {model.name} | {len(results)} | {cells} |")
    return "\n".join(lines)


def _chosen(path: Path, export: Export, seeds: int) -> Model:
    epochs = retrained_epochs(export)
    name = f"{path.stem} (trial {export.provenance.trial} of {export.provenance.study})"
    return Model(name, partial(_joint, export.config, epochs, seeds), version=_version(export.config, epochs, seeds))


def _tutorial(seeds: int) -> Iterator[Model]:
    definition = StudyDefinition.load("tutorial")
    space = Space(definition)
    for params in space.own_trials:
        config = space.config(params)
        name = f"tutorial, weights {config.rating_weight:g}/{config.retrieval_weight:g}"
        evaluate = partial(_joint, config, config.epochs, seeds)
        yield Model(name, evaluate, version=_version(config, config.epochs, seeds))


def _baselines() -> Iterator[Model]:
    for name, make in BASELINES.items():
        yield Model(name, partial(_baseline, make))


def _surprise() -> Iterator[Model]:
    if find_spec("surprise") is None:
        print("SVD and SVD++ are left out: they need `pip install 'mtsearch[reference]'`", file=sys.stderr)
        return
    from tests.benchmarks import surprise_models

    yield Model("Surprise SVD", lambda split, _: surprise_models.svd(split))
    yield Model("Surprise SVD++", lambda split, _: surprise_models.svdpp(split), is_slow=True)


def _baseline(make: Callable[[Split], TaskBaselines], split: Split, _trainers: Trainers) -> Metrics:
    return Evaluator(split, split.test).evaluate(make(split))


def _joint(config: TrialConfig, epochs: int, seeds: int, split: Split, trainers: Trainers) -> Metrics:
    """Return the mean metrics of a configuration over seeds."""
    trainer, results = trainers.of(split), []
    for seed in config.seeds(seeds):
        train_seed(trainer, config, seed, epochs)
        results.append(trainer.evaluate(split.test))
    return {key: interval.mean for key, interval in intervals(results).items()}


def _version(config: TrialConfig, epochs: int, seeds: int) -> str:
    text = f"{config.model_dump_json()} {epochs} {seeds}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _cell(interval: Interval) -> str:
    if len(interval.values) == 1:
        return f"{interval.mean:.4f}"
    return f"{interval.mean:.4f} ({interval.low:.4f} to {interval.high:.4f})"


def _write(path: Path, figures: Figures) -> None:
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(json.dumps(figures, indent=1))
    aside.replace(path)


if __name__ == "__main__":
    main()

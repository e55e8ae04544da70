"""Compare the chosen configurations with other models, on the test rows of splits that no search has used.

    python -m tests.benchmarks.reference [--splits 5] [--seeds 1] [--members 8] [--points 20] [--config FILE ...]
        [--named NAME] [--json FILE]

Beside the exported configurations (by default those of dashboards/ml-100k), of one training and of --members, stand the
tutorial's three models, the baselines, SVD and SVD++ of scikit-surprise with its defaults, and the peers of
`tests.benchmarks.peers` (`pip install -e '.[reference]'`). Each peer is tuned here: the same number of random points of
its space learn from the training rows of the default split (seed 42), and the best on its validation rows is taken.

On each of five other splits every model learns from training and validation rows and is evaluated once on the test
rows. Prints means and 95 % intervals over the splits as a Markdown table, and then the paired differences of a
configuration (--named) from each peer. Goes on where it was ended, as long as --json is the same; Ctrl-C prints what
there is. The tuning takes most of the time, and that of SVD++, a minute a point, comes last.

The configurations were chosen on the default split too: their weights never saw a test row of the five, their
hyperparameters, as those of the peers, were chosen on rows of which a part lies here in test.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from mtsearch.data import Rows, Split, load, make_split
from mtsearch.evaluation import Evaluator, Scorer, TasksScorer
from mtsearch.evaluation.baselines import BASELINES
from mtsearch.evaluation.confidence import Interval, intervals
from mtsearch.models import Device, JointTrainer
from mtsearch.retraining import retrained_epochs
from mtsearch.retraining.members import groups_of_seeds, train_members
from mtsearch.search.space import Space
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import StudyDefinition
from mtsearch.study_file.export import Export
from mtsearch.study_file.sections import DataSection, SplitSection
from tests.benchmarks.peers import Peer, Point, Uses, label, peers

SPLITS = (101, 102, 103, 104, 105)
METRICS = ("rmse", "rmse_clipped", "top_100", "top_100_unseen")
CPU = "cpu_seconds"
"""Key of the CPU seconds of the training, beside the metrics."""

CHOSEN = [Path("dashboards/ml-100k") / f"{name}.toml" for name in ("best", "rmse", "top_100")]

Metrics = Mapping[str, float]
Figures = dict[str, dict[str, dict[str, float]]]
"""Metrics by split seed and model, and those of a peer's points by `tuning NAME` and point."""


@dataclass(frozen=True)
class Model:
    """A model of the table: a way to learn from a split and to be evaluated on it.

    Attributes:
        name: in the table; in the file with what tells it from another of that name.
        evaluate: function from a split of one seed, in its final form, to the metrics on its test rows.
        is_slow: comes last.
        version: what it depends on beside its name.
        uses: what it learns from.
        is_peer: the named configuration is compared with it.
    """

    name: str
    evaluate: Callable[[Split, "Trainers"], Metrics]
    is_slow: bool = False
    version: str = ""
    uses: Uses = "both"
    is_peer: bool = False

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
    """Tune and evaluate what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, choices=range(1, len(SPLITS) + 1), default=len(SPLITS))
    parser.add_argument("--seeds", type=int, default=1, help="of each of mtsearch's models on each split")
    parser.add_argument("--members", type=int, default=8, help="trainings of the larger model of each configuration")
    parser.add_argument("--points", type=int, default=20, help="that each peer is tuned with")
    parser.add_argument("--config", type=Path, nargs="+", metavar="FILE", help="exported by `mtsearch export`")
    parser.add_argument(
        "--named", metavar="NAME", help="whose model of members is compared: a FILE's name without .toml"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keeps every figure as it comes")
    options = parser.parse_args()
    files = options.config or [path for path in CHOSEN if path.exists()]
    if options.named and options.named not in [path.stem for path in files]:
        parser.error(f"--named {options.named}: no such configuration")
    figures: Figures = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    seeds = SPLITS[: options.splits]
    found = list(peers())
    numbers = sorted({1, options.members})
    chosen = [_chosen(path, Export.load(path), options.seeds, members) for path in files for members in numbers]
    others = [*_tutorial(options.seeds), *_baselines(), *_surprise()]

    def models() -> list[Model]:
        tuned = [_tuned(peer, peer.best(peer.points(options.points), figures.get(tuning(peer), {}))) for peer in found]
        return [*chosen, *(model for model in tuned if model), *others]

    with suppress(KeyboardInterrupt):
        for is_slow in (False, True):
            tune_peers([peer for peer in found if peer.is_slow == is_slow], options.points, figures, options.json)
            evaluate_models(models(), seeds, figures, options.json)
    by_split = [figures.get(str(seed), {}) for seed in seeds]
    print(table(models(), by_split))
    for path, named in zip(files, chosen[len(numbers) - 1 :: len(numbers)], strict=True):
        if path.stem == (options.named or files[0].stem):
            print(f"\n{differences(named, models(), by_split)}")


def tuning(peer: Peer) -> str:
    """Return the key in the file under which a peer's points are kept."""
    return f"tuning {peer.name}"


def tune_peers(found: Sequence[Peer], points: int, figures: Figures, path: Path | None) -> None:
    """Add the missing metrics of the peers' points on the validation rows, and write them after each."""
    split = make_split(load(DataSection()), SplitSection())
    for peer in found:
        done = figures.setdefault(tuning(peer), {})
        for point in peer.points(points):
            if label(point) in done:
                continue
            done[label(point)] = _trained(split, partial(peer.train, split, point), split.validation)
            reached = done[label(point)][peer.chosen_by]
            print(f"tuning {peer.name}: {label(point)}: {peer.chosen_by} {reached:.4f}", file=sys.stderr, flush=True)
            if path:
                _write(path, figures)


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
                    told = "  ".join(f"{key} {value:.4f}" for key, value in done[model.key].items() if key in METRICS)
                    print(f"split {seed}: {model.name}: {told}", file=sys.stderr, flush=True)
                    if path:
                        _write(path, figures)


def table(models: list[Model], by_split: list[dict[str, dict[str, float]]]) -> str:
    """Return a Markdown table with a row per model, over the splits that it was evaluated on."""
    lines = [f"| | uses | splits | {' | '.join(METRICS)} | CPU s |", f"|--|--|--|{'--|' * len(METRICS)}--|"]
    for model in models:
        results = [split[model.key] for split in by_split if model.key in split]
        if results:
            found = intervals(results)
            cells = " | ".join(_cell(found[key]) if key in found else "" for key in METRICS)
            seconds = f"{found[CPU].mean:.3g}" if CPU in found else ""
            lines.append(f"| {model.name} | {model.uses} | {len(results)} | {cells} | {seconds} |")
    return "\n".join(lines)


def differences(named: Model, models: list[Model], by_split: list[dict[str, dict[str, float]]]) -> str:
    """Return a Markdown table of a model's metrics minus those of each peer, paired by split."""
    lines = [f"| {named.name} minus | splits | {' | '.join(METRICS)} |", f"|--|--|{'--|' * len(METRICS)}"]
    for model in models:
        pairs = [(split[named.key], split[model.key]) for split in by_split if {named.key, model.key} <= split.keys()]
        if model.is_peer and pairs:
            found = intervals([{key: own[key] - other[key] for key in METRICS if key in other} for own, other in pairs])
            cells = " | ".join(_cell(found[key], "+") if key in found else "" for key in METRICS)
            lines.append(f"| {model.name} | {len(pairs)} | {cells} |")
    return "\n".join(lines)


def _chosen(path: Path, export: Export, seeds: int, members: int) -> Model:
    config, epochs = export.config, retrained_epochs(export)
    name = f"{path.stem} (trial {export.provenance.trial} of {export.provenance.study})"
    if members > 1:
        name += f", {members} members"
    evaluate = partial(_joint, config, epochs, seeds, members)
    return Model(name, evaluate, version=_version(config, epochs, seeds))


def _tuned(peer: Peer, point: Point | None) -> Model | None:
    """Return a peer with its best point; None without one."""
    if point is None:
        return None
    name = f"{peer.name}, by {peer.chosen_by}" if peer.uses == "watches" else peer.name

    def evaluate(split: Split, _trainers: Trainers) -> Metrics:
        return _trained(split, partial(peer.train, split, point), split.test)

    return Model(name, evaluate, peer.is_slow, label(point), peer.uses, is_peer=True)


_USES_OF_TUTORIAL: Mapping[tuple[bool, bool], Uses] = {(True, False): "ratings", (False, True): "watches"}


def _tutorial(seeds: int) -> Iterator[Model]:
    definition = StudyDefinition.load("tutorial")
    space = Space(definition)
    for params in space.own_trials:
        config = space.config(params)
        name = f"tutorial, weights {config.rating_weight:g}/{config.retrieval_weight:g}"
        evaluate = partial(_joint, config, config.epochs, seeds, 1)
        uses = _USES_OF_TUTORIAL.get((config.rating_weight > 0, config.retrieval_weight > 0), "both")
        yield Model(name, evaluate, version=_version(config, config.epochs, seeds), uses=uses)


_USES_OF_BASELINES: Mapping[str, Uses] = {"chance": "nothing", "popularity": "watches", "biases": "ratings"}


def _baselines() -> Iterator[Model]:
    for name, uses in _USES_OF_BASELINES.items():
        yield _untuned(name, BASELINES[name], uses)


def _surprise() -> Iterator[Model]:
    if find_spec("surprise") is None:
        print("SVD and SVD++ are left out: they need `pip install 'mtsearch[reference]'`", file=sys.stderr)
        return
    from tests.benchmarks import surprise_models

    yield _untuned("Surprise SVD", surprise_models.svd, "ratings", is_peer=True)
    yield _untuned("Surprise SVD++", surprise_models.svdpp, "both", is_slow=True, is_peer=True)


def _untuned(
    name: str,
    train: Callable[[Split], Scorer | TasksScorer],
    uses: Uses,
    is_slow: bool = False,
    is_peer: bool = False,
) -> Model:
    def evaluate(split: Split, _trainers: Trainers) -> Metrics:
        return _trained(split, partial(train, split), split.test)

    return Model(name, evaluate, is_slow, "", uses, is_peer)


def _trained(split: Split, train: Callable[[], Scorer | TasksScorer], rows: Rows) -> dict[str, float]:
    """Return the metrics of a model on `rows`, and the CPU seconds of its training."""
    began = time.process_time()
    model = train()
    seconds = time.process_time() - began
    return {**Evaluator(split, rows).evaluate(model), CPU: seconds}


def _joint(config: TrialConfig, epochs: int, models: int, members: int, split: Split, trainers: Trainers) -> Metrics:
    """Return the mean metrics of several models of a configuration, and the CPU seconds of training one."""
    trainer, results = trainers.of(split), []
    for seeds in groups_of_seeds(config, models, members):
        began = time.process_time()
        train_members(trainer, config, seeds, epochs, lambda _seed, _epoch: None)
        seconds = time.process_time() - began
        results.append({**trainer.evaluate(split.test), CPU: seconds})
    return {key: interval.mean for key, interval in intervals(results).items()}


def _version(config: TrialConfig, epochs: int, seeds: int) -> str:
    text = f"{config.model_dump_json()} {epochs} {seeds}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _cell(interval: Interval, sign: Literal["", "+"] = "") -> str:
    """Return a mean with its interval; `sign` "+" is of a difference."""
    mean, low, high = (f"{value:{sign}.4f}" for value in (interval.mean, interval.low, interval.high))
    return mean if len(interval.values) == 1 else f"{mean} ({low} to {high})"


def _write(path: Path, figures: Figures) -> None:
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(json.dumps(figures, indent=1))
    aside.replace(path)


if __name__ == "__main__":
    main()

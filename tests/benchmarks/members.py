"""Measure what members are worth: one configuration as models of 1, 3 and 5 members, on the test rows.

    python -m tests.benchmarks.members [--config FILE] [--groups 3] [--members 1 3 5] [--json FILE]

Trains the configuration (by default that of dashboards/ml-100k/best.toml) on training and validation rows with
`groups` times the largest number of members seeds. A model of K members has the first K seeds of its group, so that
models of one group are paired: they have members in common. Each is evaluated on the test rows. Prints the metrics as
means over the groups, the mean of their differences from a single member with its 95 % interval (Student's t), and the
seconds that the saved model takes to rate 1,000 pairs and to rank for 100 users, as a Markdown table.

About 12 minutes on 2 busy cores.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from time import perf_counter

from mtsearch.data import Split
from mtsearch.evaluation.confidence import Interval
from mtsearch.models import Device, JointTrainer
from mtsearch.retraining import retrained_epochs
from mtsearch.retraining.members import groups_of_seeds, train_seed
from mtsearch.retraining.retrain import load_export_data
from mtsearch.study_file.export import Export

METRICS = ("rmse", "rmse_clipped", "top_10", "top_100", "ndcg_10")
TIMES = {"predict": "1,000 pairs, ms", "recommend": "100 users, ms"}

Found = dict[int, list[dict[str, float]]]
"""Metrics and milliseconds of each group by the number of members."""


def measure(export: Export, groups: int, sizes: Sequence[int]) -> Found:
    """Return the metrics of a model of each size in each group, and those of the first group its milliseconds."""
    _, split = load_export_data(export)
    trainer = JointTrainer(split.final(), Device.default(export.provenance.threads), validate=False)
    found: Found = {size: [] for size in sizes}
    for number, seeds in enumerate(groups_of_seeds(export.config, groups, max(sizes))):
        for place, seed in enumerate(seeds):
            if place:
                trainer.keep()
            train_seed(trainer, export.config, seed, retrained_epochs(export))
            if place + 1 in found:
                metrics = trainer.evaluate(split.test)
                times = {} if number else serving_times(trainer, split)
                found[place + 1].append(metrics | times)
                print(f"seeds {seeds[0]} to {seed}: RMSE {metrics['rmse']:.4f}", flush=True)
    return found


def serving_times(trainer: JointTrainer, split: Split) -> dict[str, float]:
    """Return the milliseconds of the calls of a saved model in `TIMES`, the median of 20."""
    import tensorflow as tf

    with TemporaryDirectory() as folder:
        trainer.save(Path(folder) / "1")
        loaded = tf.saved_model.load(str(Path(folder) / "1"))
    users, items = (list(split.user_ids[split.test.users[:1000]]), list(split.item_ids[split.test.items[:1000]]))
    some = list(split.user_ids[:100])
    asked = {
        "predict": {"user_id": tf.constant(users), "item_id": tf.constant(items)},
        "recommend": {"user_id": tf.constant(some), "k": tf.constant(10), "exclude_seen": tf.constant(True)},
    }
    return {name: median_time(loaded.signatures[name], inputs) for name, inputs in asked.items()}


def median_time(signature: object, inputs: Mapping[str, object]) -> float:
    """Return the median milliseconds of 20 calls, after 3 that are not counted."""
    assert callable(signature)
    seconds = []
    for _ in range(23):
        start = perf_counter()
        signature(**inputs)
        seconds.append(perf_counter() - start)
    return 1000 * sorted(seconds[3:])[10]


def table(found: Found) -> str:
    """Return the Markdown table."""
    first = found[min(found)]
    lines = [
        f"| members | {' | '.join(METRICS)} | {' | '.join(TIMES.values())} |",
        f"|--|{'--|' * (len(METRICS) + len(TIMES))}",
    ]
    for size, groups in found.items():
        cells = []
        for key in METRICS:
            differences = [group[key] - one[key] for group, one in zip(groups, first, strict=True)]
            cell = f"{fmean(group[key] for group in groups):.4f}"
            if groups is not first and len(groups) > 1:
                change = Interval.of(differences)
                cell += f" ({change.mean:+.4f} ±{change.high - change.mean:.4f})"
            cells.append(cell)
        cells += [f"{groups[0][name]:.1f}" for name in TIMES]
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("dashboards/ml-100k/best.toml"))
    parser.add_argument("--groups", type=int, default=3)
    parser.add_argument("--members", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--json", type=Path, help="to write every group's figures to")
    arguments = parser.parse_args()
    found = measure(Export.load(arguments.config), arguments.groups, sorted(arguments.members))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()

"""Measure what members are worth: one configuration as models of 1, 3 and 5 members, on the test rows.

    python -m tests.benchmarks.members [--config FILE] [--groups 3] [--members 1 3 5] [--json FILE]

Trains the configuration (by default that of dashboards/ml-100k/best.toml) on training and validation rows with
`groups` times the largest number of members seeds. A model of K members has the first K seeds of its group, so that
models of one group are paired: they have members in common. Each is evaluated on the test rows. Prints the metrics as
means over the groups, and the mean of their differences from a single member with its 95 % interval (Student's t), as a
Markdown table. About 10 minutes on 2 busy cores.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from mtsearch.evaluation.confidence import Interval
from mtsearch.models import Device, JointTrainer
from mtsearch.retraining import retrained_epochs
from mtsearch.retraining.members import groups_of_seeds, train_seed
from mtsearch.retraining.retrain import load_export_data
from mtsearch.study_file.export import Export

METRICS = ("rmse", "rmse_clipped", "top_10", "top_100", "ndcg_10")

Found = dict[int, list[dict[str, float]]]
"""Metrics of the model of each group, by its number of members."""


def measure(export: Export, groups: int, sizes: Sequence[int]) -> Found:
    """Return the metrics of a model of each size in each group."""
    _, split = load_export_data(export)
    trainer = JointTrainer(split.final(), Device.default(export.provenance.threads), validate=False)
    found: Found = {size: [] for size in sizes}
    for seeds in groups_of_seeds(export.config, groups, max(sizes)):
        for place, seed in enumerate(seeds):
            if place:
                trainer.keep()
            train_seed(trainer, export.config, seed, retrained_epochs(export))
            if place + 1 in found:
                found[place + 1].append(trainer.evaluate(split.test))
                print(f"seeds {seeds[0]} to {seed}: RMSE {found[place + 1][-1]['rmse']:.4f}", flush=True)
    return found


def table(found: Found) -> str:
    """Return the Markdown table."""
    first = found[min(found)]
    lines = [f"| members | {' | '.join(METRICS)} |", f"|--|{'--|' * len(METRICS)}"]
    for size, groups in found.items():
        cells = []
        for key in METRICS:
            differences = [group[key] - one[key] for group, one in zip(groups, first, strict=True)]
            cell = f"{fmean(group[key] for group in groups):.4f}"
            if groups is not first and len(groups) > 1:
                change = Interval.of(differences)
                cell += f" ({change.mean:+.4f} ±{change.high - change.mean:.4f})"
            cells.append(cell)
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

"""Measure the effect of each setting of `ml-100k` on both objectives: the whole, and the whole without one setting.

    python -m tests.benchmarks.ablation [--seeds 5] [-o ablation.json]

Trains the definition's starting point and its variants with each seed and prints means and standard deviations over
the seeds, on the validation rows, and the median of the seconds of a training. Takes about 5 minutes on 2 cores.
"""

import argparse
import json
import statistics
from pathlib import Path

from mtsearch.data import load, make_split
from mtsearch.models import Device, JointTrainer
from mtsearch.search.space import Space
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import DEFAULT, StudyDefinition

VARIANTS: dict[str, dict[str, object]] = {
    "all": {},
    "softmax over the catalogue, of cosines": {"retrieval_loss": "full", "normalize": True, "temperature": 0.35},
    "half the weight of unobserved pairs": {"unobserved_weight": 0.07},
    "twice the weight of unobserved pairs": {"unobserved_weight": 0.28},
    "no global mean and biases in the rating": {"rating_biases": False},
    "no elementwise product in the rating": {"elementwise_product": False},
    "no embedding dropout": {"embedding_dropout": 0.0},
    "half the L2 penalty": {"l2": 0.009},
    "no L2 penalty": {"l2": 0.0},
    "a constant learning rate": {"schedule": "constant"},
    "3 epochs": {"epochs": 3},
    "batches of 8,192": {"batch_size": 8192},
}
METRICS = ("rmse", "top_100", "top_100_unseen")


def main() -> None:
    """Train every variant and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    definition = StudyDefinition.load(DEFAULT)
    base = Space(definition).config(definition.starting_point())
    trainer = JointTrainer(make_split(load(definition.data), definition.split), Device.default())
    figures: dict[str, dict[str, list[float]]] = {}
    print(f"| | {' | '.join(METRICS)} | seconds |\n|--|{'--|' * (len(METRICS) + 1)}", flush=True)
    for name, changes in VARIANTS.items():
        config = TrialConfig(**{**base.model_dump(), **changes})
        runs = [
            trainer.train(config.model_copy(update={"seed": config.seed + number}), lambda _: True)
            for number in range(options.seeds)
        ]
        figures[name] = {key: [run.metrics[key] for run in runs] for key in METRICS}
        cells = [f"{statistics.mean(v):.4f} ± {statistics.stdev(v):.4f}" for v in figures[name].values()]
        figures[name]["seconds"] = [run.seconds["train"] for run in runs]
        print(f"| {name} | {' | '.join(cells)} | {statistics.median(figures[name]['seconds']):.2f} |", flush=True)
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

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
    "in-batch softmax in place of the full one": {"retrieval_loss": "in_batch"},
    "in-batch softmax, corrected": {"retrieval_loss": "corrected"},
    "no global mean and biases in the rating": {"rating_biases": False},
    "no embedding dropout": {"embedding_dropout": 0.0},
    "no L2 penalty": {"l2": 0.0},
    "scores not normalised, temperature 1": {"normalize": False, "temperature": 1.0},
    "the tutorial's rating layers (256-128)": {"hidden_layers": "256-128"},
    "the same in bfloat16": {"hidden_layers": "256-128", "precision": "bfloat16"},
    "Adagrad, learning rate 0.25": {"optimizer": "adagrad", "learning_rate": 0.25},
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
        config = TrialConfig(**{**base.model_dump(), **changes, **_same_ratio(base, changes)})
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


def _same_ratio(base: TrialConfig, changes: dict[str, object]) -> dict[str, object]:
    """Return the weight for another batch size: the retrieval loss is a sum, and the balance has to stay the same."""
    size = changes.get("batch_size", base.batch_size)
    return {"retrieval_weight": base.retrieval_weight * base.batch_size / float(str(size))}


if __name__ == "__main__":
    main()

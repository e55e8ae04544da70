"""About how long a trial takes, from arithmetic alone.

Training costs 6 operations per weight and row (2 forward, 4 backward). A row meets D weights of each item that its
retrieval loss compares, and those of the rating layers. A trial of `ml-100k-quick` took 0.84 s on 2 cores
(tests/benchmarks/speed.py) with all that comes with it, which is the rate below. A machine, a cache or an optimiser
makes it another one by a factor of several: what `run` shows as the time left is measured.
"""

from collections.abc import Mapping
from itertools import pairwise

from mtsearch.config import TrialConfig
from mtsearch.definition import StudyDefinition
from mtsearch.study_file.parameters import Scalar
from mtsearch.study_file.searchable import config_of

OPERATIONS_PER_SECOND = 2.2e11
LEAST_SECONDS = 0.2
"""Sampling, storing and judging, whatever the model."""


def trial_seconds(config: TrialConfig, rows: int, catalogue: int) -> float:
    """Seconds of one training of `config`, patience left aside.

    Args:
        config: of the trial.
        rows: to train on.
        catalogue: number of items.
    """
    compared = catalogue if config.retrieval_loss == "full" else min(config.batch_size, catalogue, rows)
    widths = (2 * config.embedding_size, *config.hidden_widths, 1)
    weights = config.embedding_size * compared + sum(first * second for first, second in pairwise(widths))
    return LEAST_SECONDS + config.epochs * rows * 6 * weights / OPERATIONS_PER_SECOND


def seconds_of_a_trial(definition: StudyDefinition, rows: int, catalogue: int) -> tuple[float, float]:
    """The cheapest and the dearest trial of a definition, all its repeats included."""
    repeats = definition.study.repeats

    def cost(values: Mapping[str, Scalar]) -> float:
        return repeats * trial_seconds(config_of({**definition.fixed, **values}), rows, catalogue)

    if not definition.space:
        listed = [cost(trial) for trial in definition.trials]
        return min(listed), max(listed)
    cheapest, dearest = definition.starting_point(), definition.starting_point()
    # NOTE: each parameter by itself is enough, since the cost falls or rises with each whatever the others are.
    for name, parameter in definition.space.items():
        values = parameter.extremes()
        cheapest[name] = min(values, key=lambda value: cost({**cheapest, name: value}))
        dearest[name] = max(values, key=lambda value: cost({**dearest, name: value}))
    return cost(cheapest), cost(dearest)

"""Compute the front of a study with mtsearch's own code, for comparison with Optuna's."""

import optuna
from optuna.study import StudyDirection

from mtsearch.search.pareto import FrontRow, complete_rows, pareto_front


def compute_front(study: optuna.Study) -> list[FrontRow]:
    signs = tuple(-1.0 if direction is StudyDirection.MAXIMIZE else 1.0 for direction in study.directions)
    return pareto_front(complete_rows(study.get_trials(deepcopy=False)), signs)

"""The front of a study as the record makes it, for comparison with Optuna's."""

import optuna
from optuna.study import StudyDirection

from mtsearch.search.front import FrontRow, finite_rows, pareto_front


def front_of(study: optuna.Study) -> list[FrontRow]:
    signs = tuple(-1.0 if direction is StudyDirection.MAXIMIZE else 1.0 for direction in study.directions)
    return pareto_front(finite_rows(study.get_trials(deepcopy=False)), signs)

"""When a study has stopped gaining."""

import optuna
from optuna.trial import FrozenTrial

from mtsearch.search import record
from mtsearch.search.attributes import counts
from mtsearch.search.front import finite_rows

_RELATIVE_GAIN = 1e-9


class Patience:
    """Runs out when so many counting trials in a row have not moved the hypervolume.

    It counts the study's trials by their end, whoever ran them, so that a resumed study stops where it would have.

    Args:
        study: whose trials.
        trials: how many.
    """

    def __init__(self, study: optuna.Study, trials: int) -> None:
        self._study, self._trials = study, trials
        self._gain = record.of(study).gain
        self._seen: set[int] = set()
        self._points: list[tuple[float, ...]] = []
        self._volume = 0.0
        self._in_a_row = 0

    @property
    def over(self) -> bool:
        """Whether it has run out."""
        trials = self._study.get_trials(deepcopy=False)
        for trial in sorted((t for t in trials if t.number not in self._seen and counts(t)), key=_end):
            self._take_in(trial)
        return self._in_a_row >= self._trials

    def _take_in(self, trial: FrozenTrial) -> None:
        self._seen.add(trial.number)
        gain = 0.0
        for row in finite_rows([trial]):
            gain = self._gain(row.values, self._points)
            self._points.append(row.values)
        gained = gain > self._volume * _RELATIVE_GAIN
        self._volume += gain
        self._in_a_row = 0 if gained else self._in_a_row + 1

    def __str__(self) -> str:
        return f"the hypervolume has not moved in the last {self._trials} trials"


def _end(trial: FrozenTrial) -> tuple[float, int]:
    return trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0, trial.number

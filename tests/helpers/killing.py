"""Kill workers during a trial."""

import os
import signal
from collections.abc import Callable

from optuna.trial import FrozenTrial, TrialState

from mtsearch.search.attributes import WORKER


def is_at_work(trial: FrozenTrial) -> bool:
    """Tell whether a trial is running, has a worker and has parameters."""
    return trial.state == TrialState.RUNNING and WORKER in trial.user_attrs and bool(trial.params)


def kill_one(trials: Callable[[], list[FrozenTrial]], chosen: Callable[[FrozenTrial], bool] = is_at_work) -> int | None:
    """Kill the worker of the first chosen trial and return the trial's number; None if no trial was chosen.

    It is stopped first: a trial that was running when it was read may have ended since.
    """
    for trial in filter(chosen, trials()):
        pid = trial.user_attrs[WORKER]["pid"]
        os.kill(pid, signal.SIGSTOP)
        if is_at_work(trials()[trial.number]):
            os.kill(pid, signal.SIGKILL)
            return trial.number
        os.kill(pid, signal.SIGCONT)
    return None

"""Samplers whose proposal for a trial depends on the study alone, not on the process that asks."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from mtsearch.definition import Sampler
from mtsearch.search import attributes
from mtsearch.search.retries import chain


def make_sampler(section: Sampler, seed: int) -> BaseSampler:
    """The sampler of a definition, seeded anew for every trial."""
    kinds: dict[str, Callable[[int], BaseSampler]] = {
        "tpe": lambda trial_seed: TPESampler(seed=trial_seed),
        "random": lambda trial_seed: RandomSampler(seed=trial_seed),
    }
    return SeededSampler(kinds[section.kind], seed)


class SeededSampler(BaseSampler):
    """Makes an inner sampler for each trial, seeded by the study's seed and the trial's place in it.

    A study that was interrupted and resumed proposes what it would have proposed in one go (one worker), and no two
    workers propose the same: the seed is no state of a process.

    Args:
        make: from a seed to a sampler.
        seed: of the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._inner = make(seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Called by Optuna first of all, with the number of the new trial."""
        state = np.random.SeedSequence([self._seed, _place(study, trial)]).generate_state(1)
        self._inner = self._make(int(state[0]))
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See Optuna."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See Optuna."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See Optuna."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """See Optuna."""
        self._inner.after_trial(study, trial, state, values)


def _place(study: optuna.Study, trial: FrozenTrial) -> int:
    """How many trials that are no retries came before it; a retry has the place of its first attempt."""
    trials = study.get_trials(deepcopy=False)
    first = [trial, *chain(trials, trial)][-1]
    return sum(attributes.RETRY_OF not in other.user_attrs for other in trials[: first.number])

"""Samplers whose proposal for a trial depends on the study alone, not on the process that asks."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseGASampler,
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from mtsearch.definition import StudyDefinition
from mtsearch.search import attributes
from mtsearch.search.retries import chain, place
from mtsearch.search.space import Space

Make = Callable[[optuna.Study, int, int], BaseSampler]
"""From a study, a trial's place in it and the trial's seed to a sampler for that trial."""

_GENETIC: Mapping[str, Callable[..., BaseSampler]] = {"nsga2": NSGAIISampler, "nsga3": NSGAIIISampler}
_DRAWS = 5


def make_sampler(definition: StudyDefinition) -> BaseSampler:
    """The sampler of a definition, made and seeded anew for every trial; without [space] there is nothing to learn."""
    section, seed = definition.study.sampler, definition.study.seed
    options = section.options()
    space = _distributions(definition)
    genetic = _GENETIC.get(section.kind)

    def random(_study: optuna.Study, _place: int, trial_seed: int) -> BaseSampler:
        return RandomSampler(seed=trial_seed)

    def make(study: optuna.Study, place: int, trial_seed: int) -> BaseSampler:
        if genetic:
            stored = {"population_size": study.user_attrs[attributes.POPULATION]}
            return genetic(**{**options, **stored}, seed=trial_seed)
        if section.kind == "gp":
            return _GaussianProcess(**options, seed=trial_seed, warn_independent_sampling=False)
        if section.kind == "qmc":
            index = place - len(study.user_attrs.get(attributes.LISTED_TRIALS, ()))
            return _Point(index, space, options, seed, trial_seed) if index >= 0 else random(study, place, trial_seed)
        return TPESampler(**options, seed=trial_seed, constant_liar=True)

    return SeededSampler(random if section.kind == "random" or not definition.space else make, seed)


def _distributions(definition: StudyDefinition) -> dict[str, BaseDistribution]:
    """What is searched in Optuna's terms, known before the first trial; less what has a single value."""
    space = Space(definition)
    trial = FixedTrial({name: parameter.extremes()[0] for name, parameter in space.parameters.items()})
    space.sample(trial)  # type: ignore[arg-type] # Optuna's own stand-in for a trial
    return {name: each for name, each in trial.distributions.items() if not each.single()}


class SeededSampler(BaseSampler):
    """Makes an inner sampler for each trial, seeded by the study's seed and the trial's place in it.

    A study that was interrupted and resumed proposes what it would have proposed in one go (one worker), and no two
    workers propose the same: the seed is no state of a process. What a sampler proposes as a whole (all but `random`
    and `tpe` without `multivariate`) is drawn again where the storage has it already: NSGA's children are often copies
    of a parent, and training is deterministic.

    Args:
        make: an inner sampler.
        seed: of the study.
    """

    def __init__(self, make: Make, seed: int) -> None:
        self._make, self._seed = make, seed
        self._inner: BaseSampler = RandomSampler()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Called by Optuna first of all, with the number of the new trial."""
        self._inner = self._inner_for(study, trial)
        self._inner.before_trial(study, trial)
        if isinstance(self._inner, BaseGASampler):
            # NOTE: Optuna proposes nothing for a retry, as its parameters are fixed, and so gives it no generation.
            self._inner.get_trial_generation(study, trial)

    def _inner_for(self, study: optuna.Study, trial: FrozenTrial, *draw: int) -> BaseSampler:
        its_place = place(study, trial)
        state = np.random.SeedSequence([self._seed, its_place, *draw]).generate_state(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # NSGA-III, QMC and GP
            return self._make(study, its_place, int(state[0]))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See Optuna."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See Optuna; the last resort is to draw each parameter by itself."""
        for draw in range(1, _DRAWS + 1):
            params = self._inner.sample_relative(study, trial, search_space)
            if params.keys() != search_space.keys() or not _is_there(study, trial, params):
                return params
            self._inner = self._inner_for(study, trial, draw)
        return {}

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


def _is_there(study: optuna.Study, trial: FrozenTrial, params: Mapping[str, Any]) -> bool:
    """Whether another trial, of which this one is no retry, has these parameters."""
    if not params:
        return False
    trials = study.get_trials(deepcopy=False)
    own = {trial.number, *(earlier.number for earlier in chain(trials, trial))}
    return any(params.items() <= other.params.items() for other in trials if other.number not in own)


class _Point(QMCSampler):
    """One point of the study's one sequence.

    NOTE: Optuna counts the points in the storage, which it reads and then writes, so that two workers may get the same
    one. It also draws the first trial at random, for want of the space.

    Args:
        index: of the point, from 0 on.
        space: all of it; the sequence has a dimension for each parameter.
        options: of Optuna's sampler.
        seed: of the sequence.
        trial_seed: for what is drawn beside it.
    """

    def __init__(
        self, index: int, space: Mapping[str, BaseDistribution], options: Mapping[str, Any], seed: int, trial_seed: int
    ) -> None:
        independent = RandomSampler(seed=trial_seed)
        super().__init__(**options, seed=seed, independent_sampler=independent, warn_independent_sampling=False)
        self._index, self._space = index, dict(space)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See Optuna."""
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See Optuna."""
        point = super().sample_relative(study, trial, self._space)
        return {name: point[name] for name in search_space}

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._index


class _GaussianProcess(GPSampler):
    """Optuna's, which learns from failures too and keeps to one thread.

    NOTE: Optuna's learns from complete trials alone. A proposal that failed would change nothing, and it would propose
    the same point for ever: 3 points in 30 trials. A trial that failed for a reason of the model, or was stopped, is
    therefore shown to it with the worst value of each objective, and as infeasible where there are constraints.
    """

    def _sample_relative_impl(
        self,
        study: optuna.Study,
        completed_trials: list[FrozenTrial],
        running_trials: list[FrozenTrial],
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        import torch

        torch.set_num_threads(1)  # NOTE: a proposal takes 0.6 s on one thread and 8 s on two.
        known = completed_trials + _as_worst(study, completed_trials, search_space)
        return super()._sample_relative_impl(study, known, running_trials, search_space)


def _as_worst(
    study: optuna.Study, completed: Sequence[FrozenTrial], space: Mapping[str, BaseDistribution]
) -> list[FrozenTrial]:
    """The counting trials that have no values, with the worst of the others."""
    columns = zip(*(trial.values for trial in completed), strict=True)
    minimized = [direction == optuna.study.StudyDirection.MINIMIZE for direction in study.directions]
    worst = [max(column) if low else min(column) for column, low in zip(columns, minimized, strict=True)]
    broken = dict.fromkeys(completed[0].constraints, 1.0)
    return [
        optuna.trial.create_trial(
            values=worst, params=trial.params, distributions=trial.distributions, constraints=broken
        )
        for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL, TrialState.PRUNED))
        if attributes.counts(trial) and space.keys() <= trial.params.keys()
    ]

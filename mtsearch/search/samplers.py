"""Samplers without a state of their own: a proposal depends on the stored study and its seed alone.

`make_sampler` makes the sampler that a definition names, `InitialTrialsSampler` puts the initial trials before it.
"""

import math
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
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
    PartialFixedSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from mtsearch.search import attributes
from mtsearch.search.attributes import retry_history, slot_of
from mtsearch.search.pareto import best_layers, complete_rows
from mtsearch.search.space import InitialTrial, Space
from mtsearch.study_file.definition import StudyDefinition


class InitialTrialsSampler(PartialFixedSampler):
    """A sampler that proposes a study's initial trials first, and then the proposals of another sampler.

    NOTE: a queue of waiting trials would not do: an interrupted one would be tried again after the others, which moves
    TPE's proposals.

    Args:
        sampler: proposes all other trials, and the parameters that an initial trial leaves open.
        initial: the initial trials, by slot.

    Attributes:
        label: origin of the trial that is being proposed if it is an initial trial; else None.
    """

    def __init__(self, sampler: BaseSampler, initial: Sequence[InitialTrial]) -> None:
        self._initial = initial
        # Optuna's sampler keeps this dictionary; it is filled anew for each trial.
        self._params: dict[str, Any] = {}
        self.label: str | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            super().__init__(self._params, sampler)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Prepare the proposal of a new trial; Optuna calls this before anything else."""
        slot = slot_of(study, trial)
        initial = self._initial[slot] if slot < len(self._initial) else None
        self.label = initial.label if initial else None
        self._params.clear()
        self._params.update(initial.params if initial else {})
        super().before_trial(study, trial)


Make = Callable[[optuna.Study, int, int], BaseSampler]
"""Makes the sampler of one trial from the study, the trial's slot in it and the trial's seed."""

MOST_TRIALS = 800
"""Number of finished trials from which TPE learns at most."""

_GOOD_OF_ONE_OBJECTIVE = 25
"""Number of trials that Optuna's TPE takes for good at most, where there is one objective."""

_GENETIC: Mapping[str, Callable[..., BaseSampler]] = {"nsga2": NSGAIISampler, "nsga3": NSGAIIISampler}
_DRAWS = 5


def make_sampler(definition: StudyDefinition) -> BaseSampler:
    """Return the sampler that a definition names, which is seeded anew for every trial.

    Without [space] it draws at random: there is nothing to learn.
    """
    section, seed = definition.study.sampler, definition.study.seed
    options = section.options()
    space = _distributions(definition)
    genetic = _GENETIC.get(section.kind)

    def random(_study: optuna.Study, _slot: int, trial_seed: int) -> BaseSampler:
        return RandomSampler(seed=trial_seed)

    def make(study: optuna.Study, slot: int, trial_seed: int) -> BaseSampler:
        if genetic:
            # The study keeps the population size of its first run, see `begin_or_resume`.
            stored = {"population_size": study.user_attrs[attributes.POPULATION]}
            return genetic(**{**options, **stored}, seed=trial_seed)
        if section.kind == "gp":
            return _GaussianProcess(**options, seed=trial_seed, warn_independent_sampling=False)
        if section.kind == "qmc":
            # The sequence begins after the initial trials.
            index = slot - len(study.user_attrs.get(attributes.INITIAL_TRIALS, ()))
            if index < 0:
                return random(study, slot, trial_seed)
            return _SequencePoint(index, space, options, seed, trial_seed)
        return TPE(MOST_TRIALS, **options, seed=trial_seed, constant_liar=True)

    return SeededSampler(random if section.kind == "random" or not definition.space else make, seed)


def _distributions(definition: StudyDefinition) -> dict[str, BaseDistribution]:
    """Return Optuna's distributions of the searched parameters by name, without those of a single value."""
    space = Space(definition)
    # Sample a stand-in for a trial: it records the distribution of each parameter that it is asked for.
    trial = FixedTrial({name: parameter.extremes()[0] for name, parameter in space.parameters.items()})
    space.sample(trial)  # type: ignore[arg-type] # Optuna's own stand-in for a trial
    return {name: each for name, each in trial.distributions.items() if not each.single()}


class SeededSampler(BaseSampler):
    """A sampler that makes an inner sampler per trial, seeded by the study's seed and the trial's slot.

    The seed is not a state of the process. A study that was interrupted and resumed therefore proposes the same trials
    as an uninterrupted one (with one worker). A configuration that the
    storage already holds is drawn again, because training is deterministic and NSGA's children are often copies of a
    parent. This needs a sampler that proposes all parameters together (all but `random` and `tpe` without
    `multivariate`).

    Args:
        make: makes an inner sampler.
        seed: of the study.
    """

    def __init__(self, make: Make, seed: int) -> None:
        self._make, self._seed = make, seed
        self._inner: BaseSampler = RandomSampler()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Make the inner sampler of a new trial; Optuna calls this before anything else."""
        self._inner = self._inner_for(study, trial)
        self._inner.before_trial(study, trial)
        if isinstance(self._inner, BaseGASampler):
            # NOTE: Optuna proposes nothing for a retry, as its parameters are fixed, and so gives it no generation.
            self._inner.get_trial_generation(study, trial)

    def _inner_for(self, study: optuna.Study, trial: FrozenTrial, *draw: int) -> BaseSampler:
        """Return a sampler for one trial; `draw` is the number of draws before, if it is drawn again."""
        slot = slot_of(study, trial)
        state = np.random.SeedSequence([self._seed, slot, *draw]).generate_state(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # NSGA-III, QMC and GP
            return self._make(study, slot, int(state[0]))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that the inner sampler proposes together."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose all parameters together, up to five times while another trial has the same configuration.

        After that nothing is returned, and Optuna draws each parameter by itself.
        """
        for draw in range(1, _DRAWS + 1):
            params = self._inner.sample_relative(study, trial, search_space)
            if params.keys() != search_space.keys() or not _is_in_study(study, trial, params):
                return params
            self._inner = self._inner_for(study, trial, draw)
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Propose the value of one parameter, as the inner sampler does."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Tell the inner sampler that the trial is about to end."""
        self._inner.after_trial(study, trial, state, values)


def _is_in_study(study: optuna.Study, trial: FrozenTrial, params: Mapping[str, Any]) -> bool:
    """Tell whether another trial has these parameters; earlier attempts of the same trial are left out."""
    if not params:
        return False
    trials = study.get_trials(deepcopy=False)
    own = {trial.number, *(earlier.number for earlier in retry_history(trials, trial))}
    return any(params.items() <= other.params.items() for other in trials if other.number not in own)


class TPE(TPESampler):
    """Optuna's TPE sampler, which learns from a selection of the trials where there are many.

    NOTE: Optuna's sampler takes the best tenth of all trials for good, and models the density of these and of the
    others, for each parameter of a proposal anew: 274 ms with 10,000 trials. Here both densities are those of samples,
    of which the front is always a part. What that costs, by tests/benchmarks/scale.py, `selection`: 0.941 and 0.942 of
    the hypervolume from 100 of 500 trials, where all give 0.947 and 0.945.

    Args:
        most: number of finished trials of a selection, of which a quarter are good ones.
        seed: of this proposal.
        options: of Optuna's sampler.
    """

    def __init__(self, most: int, *, seed: int, **options: Any) -> None:
        super().__init__(**options, seed=seed)
        self._most, self._seed = most, seed
        self._selected: _SelectedTrials | None = None

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._selected is None:  # the same for all parameters of the trial
            self._selected = _SelectedTrials(study, self._select(study, study.get_trials(deepcopy=False)))
        return super()._sample(self._selected, trial, search_space)  # type: ignore[arg-type] # it shows what is needed

    def _select(self, study: optuna.Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return the running trials and at most `most` of the others, and set how many of these are good."""
        known = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        if len(known) <= self._most:
            return trials
        rows = complete_rows(known)
        signs = [1.0 if direction == optuna.study.StudyDirection.MINIMIZE else -1.0 for direction in study.directions]
        losses, rng = np.array([row.values for row in rows]) * signs, np.random.default_rng(self._seed)

        # The good: the front, and a sample of the others of the best tenth. The bad: a sample of all others.
        number_good = math.ceil(len(known) / 10)
        if len(signs) == 1:
            number_good = min(number_good, _GOOD_OF_ONE_OBJECTIVE)
        layers = best_layers(losses, number_good)
        front, tenth = layers[0] if layers else [], [index for layer in layers for index in layer]
        good = front[:]
        if len(front) < self._most // 4:
            others = np.setdiff1d(tenth, front)
            good += rng.choice(others, min(self._most // 4 - len(front), len(others)), replace=False).tolist()
        elif len(front) > self._most // 2:
            good = rng.choice(front, self._most // 2, replace=False).tolist()
        best = {rows[index].trial for index in tenth}
        bad = [trial.number for trial in known if trial.number not in best]
        drawn = rng.choice(bad, min(self._most - len(good), len(bad)), replace=False)
        self._gamma = lambda _: len(good)
        chosen = {*(rows[index].trial for index in good), *drawn.tolist()}
        return [trial for trial in trials if trial.number in chosen or trial.state == TrialState.RUNNING]


class _SelectedTrials:
    """A study that shows a sampler some of its trials only."""

    def __init__(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        self._study, self._trials = study, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]


class _SequencePoint(QMCSampler):
    """A sampler of one point of the quasi-random sequence that all trials of the study share.

    NOTE: Optuna counts the points in the storage, so that a retry would get another one. It also draws the first trial
    at random, because it does not know the space yet.

    Args:
        index: of the point, 0-based.
        space: the whole space; the sequence has a dimension for each parameter.
        options: of Optuna's sampler.
        seed: of the sequence.
        trial_seed: for parameters that are drawn independently.
    """

    def __init__(
        self, index: int, space: Mapping[str, BaseDistribution], options: Mapping[str, Any], seed: int, trial_seed: int
    ) -> None:
        independent = RandomSampler(seed=trial_seed)
        super().__init__(**options, seed=seed, independent_sampler=independent, warn_independent_sampling=False)
        self._index, self._space = index, dict(space)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole space, which is known before the first trial."""
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the values of the point in the searched parameters."""
        point = super().sample_relative(study, trial, self._space)
        return {name: point[name] for name in search_space}

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._index


class _GaussianProcess(GPSampler):
    """Optuna's Gaussian-process sampler, on one thread, which also learns from failed and pruned trials.

    NOTE: Optuna's sampler learns from complete trials alone. A proposal that failed would change nothing, and the
    sampler would propose the same point for ever: 3 points in 30 trials. A trial that failed for a reason of the model,
    or was pruned, is therefore passed on with the worst value of each objective, and as infeasible if there are
    constraints.
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
        known = completed_trials + _with_worst_values(study, completed_trials, search_space)
        return super()._sample_relative_impl(study, known, running_trials, search_space)


def _with_worst_values(
    study: optuna.Study, completed: Sequence[FrozenTrial], space: Mapping[str, BaseDistribution]
) -> list[FrozenTrial]:
    """Return copies of the failed and pruned counting trials, with the worst values of the completed trials."""
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

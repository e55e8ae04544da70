"""Samplers without a state of their own: a proposal depends on the stored study and its seed alone.

`make_sampler` makes the sampler that a definition names, `InitialTrialsSampler` puts the initial trials before it.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import optuna
from numpy.typing import NDArray
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
from optuna.samplers._tpe.sampler import _split_trials, default_gamma, default_gamma_multiobjective
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from mtsearch.search import attributes
from mtsearch.search.attributes import retry_history, slot_of
from mtsearch.search.pareto import complete_rows
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

MOST_TRIALS = 1000
"""Number of good trials, and of bad ones, from which TPE learns at most."""

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
    """Optuna's TPE sampler, whose proposals cost nearly the same with 10,000 trials as with 1,000.

    Optuna's sampler divides all trials into good and bad ones for each parameter anew, and models the density of both.
    Here they are divided once per proposal. With more than `most` finished trials, both densities are those of `most`
    trials at most, and the good are those that the fewest others dominate (Fonseca and Fleming 1993, "Genetic
    algorithms for multiobjective optimization"), which is known without sorting all trials.

    NOTE: by tests/benchmarks/scale.py, `owner`, a proposal with 10,000 trials takes a tenth of the time of Optuna's: 90
    and 852 ms on 2 shared cores. By its `selection`, 1,500 trials of which both densities have 150 at most, medians of
    the hypervolume over 6 seeds, Optuna's and this one's: 0.954 and 0.955, 0.813 and 0.823.

    Args:
        most: number of good trials from which a proposal learns at most, and of bad ones.
        seed: of this proposal.
        options: of Optuna's sampler.
    """

    def __init__(self, most: int, *, seed: int, **options: Any) -> None:
        super().__init__(**options, seed=seed)
        self._most, self._seed = most, seed
        self._divided: tuple[list[FrozenTrial], list[FrozenTrial]] | None = None

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Propose the value of one parameter."""
        if self._divided is None:  # Optuna counts the finished trials: the first ones are proposed at random
            return super().sample_independent(study, trial, param_name, param_distribution)
        return self._sample(study, trial, {param_name: param_distribution})[param_name]

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._divided is None:
            self._divided = self._divide(study, trial)
        good = self._build_parzen_estimator(study, search_space, self._divided[0], handle_below=True)
        bad = self._build_parzen_estimator(study, search_space, self._divided[1], handle_below=False)
        candidates = good.sample(self._rng.rng, self._n_ei_candidates)
        chosen = self._compare(candidates, self._compute_acquisition_func(candidates, good, bad))
        return {name: each.to_external_repr(chosen[name]) for name, each in search_space.items()}

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: optuna.Study
    ) -> dict[str, NDArray[np.float64]]:
        if len(search_space) > 1:  # Optuna also looks for what running trials will have
            return super()._get_internal_repr(trials, search_space, study)
        ((name, distribution),) = search_space.items()
        # NOTE: it is asked for 8,000 values in a proposal of four parameters, which Optuna takes 20 ms for.
        held = (trial.params for trial in trials)
        return {name: np.array([distribution.to_internal_repr(each[name]) for each in held if name in each])}

    def _divide(self, study: optuna.Study, trial: FrozenTrial) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        """Return the good trials and the bad ones, in the order of their numbers; running trials count as bad."""
        history = _histories.setdefault(study, _History(study))
        running = [other for other in history.update(study) if other.number != trial.number]
        finished, ranked = len(history.trials), np.array(history.ranked, dtype=int)
        number_good = (default_gamma if len(study.directions) == 1 else default_gamma_multiobjective)(finished)

        if finished <= self._most or len(ranked) < number_good:
            # Optuna sorts what may be good: of the others, each is dominated by as many as there are good ones.
            worse = set(ranked[history.dominators >= number_good].tolist())
            open_ = _by_number(each for index, each in enumerate(history.trials) if index not in worse)
            good, bad = _split_trials(study, open_, number_good)
            return good, _by_number([*bad, *(history.trials[index] for index in worse), *running])

        # Of those that equally many dominate, and of more than there may be, the lot decides. It is drawn in the order
        # of the numbers: in which order trials have ended is not stored.
        lots = np.empty(finished)
        lots[np.argsort([each.number for each in history.trials])] = np.random.default_rng(self._seed).random(finished)
        best = ranked[np.lexsort((lots[ranked], history.dominators))][:number_good]
        others = np.setdiff1d(np.arange(finished), best)
        good, bad = (
            [history.trials[index] for index in each[np.argsort(lots[each])][: self._most]] for each in (best, others)
        )
        return _by_number(good), _by_number([*bad, *running])


def _by_number(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    return sorted(trials, key=attrgetter("number"))


class _History:
    """The finished trials of a study that TPE learns from, and how many of them dominate each.

    Args:
        study: whose trials; any number of them.

    Attributes:
        trials: the complete and the pruned ones, in the order in which they were found.
        ranked: indices in `trials` of those that are complete and feasible and have finite values.
        dominators: number of trials that are better than each of these, [len(ranked)].
    """

    def __init__(self, study: optuna.Study) -> None:
        self.trials: list[FrozenTrial] = []
        self.ranked: list[int] = []
        self.dominators = np.zeros(0, dtype=int)
        self._signs = np.array([1.0 if each == StudyDirection.MINIMIZE else -1.0 for each in study.directions])
        self._losses = np.zeros((len(self._signs), 0))
        self._unfinished: list[int] = []
        self._known = 0

    def update(self, study: optuna.Study) -> list[FrozenTrial]:
        """Take the trials that have ended since the latest update, and return those that run."""
        trials = study.get_trials(deepcopy=False)
        open_, self._unfinished = [*self._unfinished, *range(self._known, len(trials))], []
        self._known = len(trials)
        for number in open_:
            if not trials[number].state.is_finished():
                self._unfinished.append(number)
            elif trials[number].state != TrialState.FAIL:
                self._add(trials[number])
        return [trials[number] for number in self._unfinished if trials[number].state == TrialState.RUNNING]

    def _add(self, trial: FrozenTrial) -> None:
        self.trials.append(trial)
        for row in complete_rows([trial]):
            loss = self._signs * row.values
            no_worse = (self._losses <= loss[:, None]).all(axis=0)
            no_better = (self._losses >= loss[:, None]).all(axis=0)
            self.dominators += no_better & ~no_worse
            self.dominators = np.append(self.dominators, np.count_nonzero(no_worse & ~no_better))
            self._losses = np.column_stack([self._losses, loss])
            self.ranked.append(len(self.trials) - 1)


_histories: MutableMapping[optuna.Study, _History] = WeakKeyDictionary()


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

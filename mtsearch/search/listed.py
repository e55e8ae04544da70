"""What a study runs first: the definition's [[trials]], its starting point, weights 1/1, and another study's front."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, PartialFixedSampler
from optuna.trial import FrozenTrial

from mtsearch.definition import StudyDefinition
from mtsearch.errors import DefinitionError, StudyMismatch
from mtsearch.search.attributes import LISTED_TRIALS
from mtsearch.search.front import FrontRow
from mtsearch.search.retries import place, sign
from mtsearch.search.space import Space


@dataclass(frozen=True)
class Listed:
    """A trial that is not sampled, or only where it leaves a parameter open.

    Attributes:
        label: where it comes from.
        params: by name.
    """

    label: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class WarmStart:
    """Another study's front as listed trials.

    Attributes:
        study: its name.
        trials: its front, in this space.
    """

    study: str
    trials: tuple[Listed, ...] = ()


def listed_trials(definition: StudyDefinition, warm_start: WarmStart | None) -> list[Listed]:
    """All that runs first, in order, each configuration once; without [space] the definition's own list alone."""
    own = [Listed(label(number), params) for number, params in enumerate(Space(definition).listed)]
    if not definition.space:
        return own
    own.append(Listed("starting point", definition.starting_point()))
    unit_weights = definition.unit_weights()
    if unit_weights is not None:
        own.append(Listed("weights 1/1", unit_weights))
    return _each_once([*own, *(warm_start.trials if warm_start else ())])


def label(number: int) -> str:
    """Of the definition's listed trial of that index."""
    return f"[[trials]] {number + 1}"


def warm_start_from(study: str, front: Sequence[FrontRow], definition: StudyDefinition) -> WarmStart:
    """Another study's front: of its parameters those that lie in this space, the others from the starting point.

    Raises:
        DefinitionError: there is no [space].
        StudyMismatch: the front is empty, or none of its parameters lies in this space.
    """
    if not definition.space:
        raise DefinitionError(f"{definition.study.name} has no [space] for a warm start", "run it without --warm-start")
    if not front:
        raise StudyMismatch(f"study {study!r} has no front to start from", "name another with --warm-start")
    usable = {row.trial: _inside(definition, row.params) for row in front}
    if not any(usable.values()):
        searched = ", ".join(definition.space)
        problem = f"no parameter of study {study!r} lies in this space ({searched})"
        raise StudyMismatch(problem, "name another study with --warm-start, or widen [space]")
    start = definition.starting_point()
    return WarmStart(study, tuple(Listed(f"{study} #{n}", {**start, **params}) for n, params in usable.items()))


def stored_listed(study: optuna.Study) -> list[Listed]:
    """What was listed when the study was begun."""
    return [Listed(**entry) for entry in study.user_attrs.get(LISTED_TRIALS, [])]


def storable(trials: Iterable[Listed]) -> list[dict[str, Any]]:
    """As `stored_listed` reads it."""
    return [asdict(trial) for trial in trials]


class ListedFirst(PartialFixedSampler):
    """Proposes what is listed at the first places of a study, and what another sampler does after them.

    NOTE: a queue of waiting trials would not do: an interrupted one would be tried again after the others, which moves
    TPE's proposals, and two runs that begin at once would both fill it.

    Args:
        sampler: for all that is not listed.
        listed: by place.

    Attributes:
        label: of the trial that is being proposed, where it is listed.
    """

    def __init__(self, sampler: BaseSampler, listed: Sequence[Listed]) -> None:
        self._listed = listed
        self._params: dict[str, Any] = {}  # of one trial after the other
        self.label: str | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            super().__init__(self._params, sampler)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """See Optuna: the first that hears of a trial, and so signs it; a proposal may take seconds."""
        sign(study, trial)
        index = place(study, trial)
        listed = self._listed[index] if index < len(self._listed) else None
        self.label = listed.label if listed else None
        self._params.clear()
        self._params.update(listed.params if listed else {})
        super().before_trial(study, trial)


def _inside(definition: StudyDefinition, params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: params[name] for name, parameter in definition.space.items() if params.get(name) in parameter}


def _each_once(trials: Iterable[Listed]) -> list[Listed]:
    first: dict[tuple[tuple[str, Any], ...], Listed] = {}
    for trial in trials:
        first.setdefault(tuple(sorted(trial.params.items())), trial)
    return list(first.values())

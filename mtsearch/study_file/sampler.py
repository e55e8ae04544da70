"""How the next configuration is proposed: the kinds of samplers, and the options and packages of each."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from mtsearch.errors import DefinitionError
from mtsearch.study_file.kinds import OfKind
from mtsearch.study_file.mistakes import nearest, shown

_GENETIC: Mapping[str, Any] = {"population_size": None, "mutation_prob": None, "crossover_prob": 0.9}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "tpe": {"n_startup_trials": 10, "multivariate": False, "n_ei_candidates": 24},
    "nsga2": _GENETIC,
    "nsga3": _GENETIC,
    "gp": {"n_startup_trials": 10, "deterministic_objective": False},
    # NOTE: Optuna leaves `scramble` off, as its workers would have to agree on a seed; here the study has one.
    "qmc": {"qmc_type": "sobol", "scramble": True},
    "random": {},
}
"""The options of each kind with their defaults, Optuna's but for `scramble` and `population_size`."""

_REFUSED = {
    "cmaes": "searches for one objective, and a study has two: take 'nsga2' or 'gp'",
    "grid": "needs a list of values of every parameter: write [[trials]], or take 'qmc', which covers [space] evenly",
    "bruteforce": "needs a list of values of every parameter: write [[trials]], or take 'qmc', which covers [space] "
    "evenly",
}
_PACKAGES = {"gp": ("scipy", "torch"), "qmc": ("scipy",)}


def _known(kind: object) -> object:
    if isinstance(kind, str) and kind not in OPTIONS:
        reason = _REFUSED.get(kind.lower().replace("-", "").replace("_", ""))
        raise ValueError(f"{kind!r} {reason}" if reason else f"{shown(kind)} is no sampler{nearest(kind, OPTIONS)}")
    return kind


Kind = Annotated[Literal["tpe", "nsga2", "nsga3", "gp", "qmc", "random"], BeforeValidator(_known)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10_000)]


class Sampler(OfKind):
    """How the next configuration is proposed."""

    defaults: ClassVar = OPTIONS
    kind: Kind = Field(
        default="tpe",
        description="`tpe` (Parzen estimators), `nsga2` and `nsga3` (genetic), `gp` (Gaussian processes; for trials "
        "of minutes, since it takes a second itself), `qmc` (covers the space evenly), `random`.",
    )
    n_startup_trials: Count | None = Field(
        default=None, description="Of `tpe` and `gp`: complete trials before the model is asked; 10."
    )
    multivariate: bool | None = Field(
        default=None, description="Of `tpe`: one model of all parameters together; false."
    )
    n_ei_candidates: Count | None = Field(
        default=None, description="Of `tpe`: candidates per proposal, of which the best is taken; 24."
    )
    population_size: int | None = Field(
        default=None,
        ge=2,
        le=10_000,
        description="Of `nsga2` and `nsga3`: complete trials in a generation; a sixth of the trials asked for when "
        "the study is begun, and 8 at least.",
    )
    mutation_prob: Share | None = Field(
        default=None,
        description="Of `nsga2` and `nsga3`: chance that a parameter of a child mutates; 1 / number of parameters.",
    )
    crossover_prob: Share | None = Field(
        default=None, description="Of `nsga2` and `nsga3`: chance that a child has two parents; 0.9."
    )
    deterministic_objective: bool | None = Field(
        default=None, description="Of `gp`: the objectives have no noise; false."
    )
    qmc_type: Literal["sobol", "halton"] | None = Field(default=None, description="Of `qmc`: the sequence; `sobol`.")
    scramble: bool | None = Field(
        default=None, description="Of `qmc`: the sequence is randomised by the study's seed; true."
    )

    def population(self, trials: int) -> int | None:
        """Complete trials in a generation; None where there are no generations.

        Args:
            trials: asked for when the study is begun.
        """
        options = self.options()
        return (options["population_size"] or max(8, trials // 6)) if "population_size" in options else None


def require_packages(sampler: Sampler) -> None:
    """Before anything is loaded: what a sampler needs would be missed only at its first proposal.

    Raises:
        DefinitionError: a package of the sampler's extra is not installed.
    """
    missing = [name for name in _PACKAGES.get(sampler.kind, ()) if find_spec(name) is None]
    if missing:
        problem = f"sampler {sampler.kind!r} needs {' and '.join(missing)}, not installed here"
        raise DefinitionError(problem, f"pip install 'mtsearch[{sampler.kind}]'")

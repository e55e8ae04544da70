"""How much each parameter decides about an objective."""

import warnings
from collections.abc import Mapping

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from mtsearch.objectives import METRICS
from mtsearch.search.attributes import DEFINITION
from mtsearch.search.front import finite_rows

FEWEST = 20
"""Complete trials; below it the best tenth says nothing."""

_BEST = 5  # trials at least that "good" is learnt from, as PED-ANOVA's authors advise


def importances(study: optuna.Study) -> dict[str, dict[str, float]]:
    """Per objective, by its key, the share of each parameter in reaching its best trials (PED-ANOVA).

    Watanabe, Bansal, Hutter: PED-ANOVA (IJCAI 2023). Of the trials with finite values the best tenth, at least five,
    are compared with all.

    Returns:
        Shares that add up to 1, the largest first; empty under `FEWEST` trials or where no parameter varies.
    """
    usable = {row.trial for row in finite_rows(study.get_trials(deepcopy=False))}
    if len(usable) < FEWEST:
        return {}
    own = _only(study, usable)
    keys = study.user_attrs[DEFINITION]["study"]["objectives"]
    shares = {
        key: _shares(own, index, METRICS[key].sign, max(0.1, _BEST / len(usable))) for index, key in enumerate(keys)
    }
    return {key: by_name for key, by_name in shares.items() if by_name}


def _shares(study: optuna.Study, index: int, sign: float, quantile: float) -> dict[str, float]:
    def loss(trial: FrozenTrial) -> float:
        return sign * float(trial.values[index])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that low targets are taken for good, and that this is experimental
        evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
        found: Mapping[str, float] = get_param_importances(study, evaluator=evaluator, target=loss, normalize=False)
    total = sum(found.values())
    return {name: value / total for name, value in found.items()} if total > 0 else {}


def _only(study: optuna.Study, numbers: set[int]) -> optuna.Study:
    """A copy in memory that holds these trials: an infinite value would be among the best or shift the rest."""
    copy = optuna.create_study(directions=study.directions)
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.number in numbers]
    copy.add_trials(
        optuna.trial.create_trial(
            state=TrialState.COMPLETE, values=trial.values, params=trial.params, distributions=trial.distributions
        )
        for trial in trials
    )
    return copy

"""The honest metrics of the protocol, and the references that need no search; NumPy only."""

from mtsearch.evaluation.baselines import baselines
from mtsearch.evaluation.evaluator import Evaluator
from mtsearch.evaluation.scorer import Scorer

__all__ = ["Evaluator", "Scorer", "baselines"]

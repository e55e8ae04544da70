"""Evaluate models on held-out rows: metrics, and baselines that need no search. Uses NumPy only."""

from mtsearch.evaluation.baselines import evaluate_baselines
from mtsearch.evaluation.evaluator import CountingScorer, Evaluator, Scorer

__all__ = ["CountingScorer", "Evaluator", "Scorer", "evaluate_baselines"]

"""Evaluate models on held-out rows: metrics, and baselines that need no search. Uses NumPy only."""

from mtsearch.evaluation.baselines import evaluate_baselines
from mtsearch.evaluation.evaluator import CountingRanker, Evaluator, Ranker, Rater, Scorer, TasksScorer

__all__ = ["CountingRanker", "Evaluator", "Ranker", "Rater", "Scorer", "TasksScorer", "evaluate_baselines"]

"""Evaluate models on held-out rows: metrics, and baselines. NumPy only, but for what trains the strong baselines."""

from mtsearch.evaluation.baselines import evaluate_baselines
from mtsearch.evaluation.evaluator import CountingRanker, Evaluator, Ranker, Rater, Scorer, TasksScorer

__all__ = ["CountingRanker", "Evaluator", "Ranker", "Rater", "Scorer", "TasksScorer", "evaluate_baselines"]

"""Multi-objective hyperparameter search for recommenders that learn ratings and retrieval at once."""

__version__ = "0.1.0"

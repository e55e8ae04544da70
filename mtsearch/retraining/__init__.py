"""Train an exported configuration again, evaluate it on the test rows, and write a model folder."""

from mtsearch.retraining.retrain import On, Retrained, retrain, retrained_epochs

__all__ = ["On", "Retrained", "retrain", "retrained_epochs"]

"""An exported configuration trained again, judged on the test rows, and left as a folder that can be served."""

from mtsearch.retraining.result import On, Retrained
from mtsearch.retraining.training import retrain, retrained_epochs

__all__ = ["On", "Retrained", "retrain", "retrained_epochs"]

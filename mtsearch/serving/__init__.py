"""A trained model put to use, in Python, in files and over HTTP; needs plain TensorFlow and nothing that trained it."""

from mtsearch.serving.model import Predictions, Recommendations, ServedModel

__all__ = ["Predictions", "Recommendations", "ServedModel"]

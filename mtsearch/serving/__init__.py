"""Serve a trained model in Python, on files and over HTTP; needs plain TensorFlow, but not the code that trained it."""

from mtsearch.serving.model import Predictions, Recommendations, ServedModel

__all__ = ["Predictions", "Recommendations", "ServedModel"]

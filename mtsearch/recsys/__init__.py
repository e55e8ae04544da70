"""The TensorFlow Recommenders joint model: the only place that imports TensorFlow.

Importing this package fixes what must be fixed before TensorFlow starts: TFRS 0.7 is written against Keras 2, which
TensorFlow calls legacy Keras.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from mtsearch.recsys.device import Device  # noqa: E402 - after the environment is set
from mtsearch.recsys.trainer import JointTrainer  # noqa: E402

__all__ = ["Device", "JointTrainer"]

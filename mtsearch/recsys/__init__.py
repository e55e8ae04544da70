"""The TensorFlow Recommenders joint model: the only place that trains, with TensorFlow, TFRS and tf-keras."""

from mtsearch.startup import start_tensorflow

start_tensorflow()

from mtsearch.recsys.device import Device  # noqa: E402 - after TensorFlow was told what it must be told first
from mtsearch.recsys.own_model import Factory, OwnModel  # noqa: E402
from mtsearch.recsys.own_trainer import OwnTrainer  # noqa: E402
from mtsearch.recsys.trainer import JointTrainer  # noqa: E402

__all__ = ["Device", "Factory", "JointTrainer", "OwnModel", "OwnTrainer"]

"""Train, evaluate and save recommender models: the TensorFlow Recommenders joint model and custom models.

`trainer` (the seam to the search) and `cost` need no TensorFlow. The other modules do, and TensorFlow has to be started
by `start_tensorflow` first: the first use of a name in `__all__` does that.
"""

import os
from typing import TYPE_CHECKING, Any

__all__ = ["CustomModel", "CustomTrainer", "Device", "JointTrainer", "ModelFactory"]

if TYPE_CHECKING:
    from mtsearch.models.custom_model import CustomModel, ModelFactory
    from mtsearch.models.custom_trainer import CustomTrainer
    from mtsearch.models.device import Device
    from mtsearch.models.joint_trainer import JointTrainer

_MODULES = {
    "CustomModel": "custom_model",
    "CustomTrainer": "custom_trainer",
    "Device": "device",
    "JointTrainer": "joint_trainer",
    "ModelFactory": "custom_model",
}

# TFRS 0.7 is written against Keras 2; TensorFlow reads this at the first touch of Keras.
os.environ["TF_USE_LEGACY_KERAS"] = "1"


def __getattr__(name: str) -> Any:
    """Import a class of this package that needs TensorFlow, and start TensorFlow before it."""
    # NOTE: imported when asked for: TensorFlow takes 2 s, and the search needs `trainer` and `cost` alone.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from mtsearch.host import start_tensorflow

    start_tensorflow()
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

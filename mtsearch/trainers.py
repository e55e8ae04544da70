"""Which trainer a definition's trials take, and how a process makes it."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from mtsearch.data import Split
from mtsearch.definition import StudyDefinition
from mtsearch.search.crew import MakeTrainer
from mtsearch.search.passport import MODEL_SOURCE
from mtsearch.study_file.model import ModelSection, find_source
from mtsearch.trial import Trainer


def joint_trainer(split: Split, threads: int | None) -> tuple[Trainer, Mapping[str, Any]]:
    """The TFRS joint model on the best device of this machine, and what to write into the passport of it."""
    from mtsearch.recsys import Device, JointTrainer  # TensorFlow takes seconds to import

    device = Device.default(threads)
    return JointTrainer(split, device), {"device": device.description, "threads": device.threads}


def own_trainer(
    model: ModelSection, source: str, split: Split, threads: int | None
) -> tuple[Trainer, Mapping[str, Any]]:
    """`joint_trainer` of a model of the user's own, whose source has the fingerprint `source`.

    Raises:
        DefinitionError: it cannot be found or imported, or was changed.
    """
    from mtsearch.recsys import Device, Factory, OwnTrainer

    device = Device.default(threads)
    trainer = OwnTrainer(Factory(model, source), split, device)
    return trainer, {"device": device.description, "threads": device.threads, MODEL_SOURCE: source}


def trainer_of(definition: StudyDefinition) -> MakeTrainer:
    """What makes the trainer of a definition, in this process or another.

    Raises:
        DefinitionError: the module of a model of the user's own is not found.
    """
    if definition.model is None:
        return joint_trainer
    return partial(own_trainer, definition.model, find_source(definition.model).fingerprint)

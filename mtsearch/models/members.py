"""Keep what serves of each training of a joint model, so that several trainings can become one model (`Member`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import tensorflow as tf

from mtsearch.data.interactions import Codes
from mtsearch.data.split import Split
from mtsearch.models.compiled_model import CompiledModel, TaskTables
from mtsearch.models.graph_key import LearntTask
from mtsearch.models.joint_model import JointModel, Tables
from mtsearch.models.tasks import SortedIndex

Towers = tuple[tf.Tensor, tf.Tensor]
"""Embeddings `[U, E]` of users and `[I, E]` of items, whose products are scores."""


@dataclass(frozen=True, eq=False)
class Member:
    """What serves of one training of a joint model.

    Attributes:
        compiled: the model that was trained, with the graphs that predict.
        tables: its tables.
        layers: of each task of ratings or labels the weights of its layers.
        unknown: of each task the rows `[1, E]` of a user and of an item that the split does not have; empty if the
            member is only evaluated.
    """

    compiled: CompiledModel
    tables: TaskTables
    layers: Mapping[str, Sequence[tf.Tensor | tf.Variable]]
    unknown: Mapping[str, Towers] = field(default_factory=dict)

    @classmethod
    def present(cls, compiled: CompiledModel) -> Self:
        """Return what a model is now; it may be evaluated until the model is trained on.

        NOTE: after every epoch: 0.8 ms with the tables of MovieLens 100K at D = 64, and `kept` takes 6 ms.
        """
        return cls(compiled, compiled.tables(), {name: head.variables for name, head in compiled.model.heads.items()})

    @classmethod
    def kept(cls, compiled: CompiledModel) -> Self:
        """Return what a model is now, which stays when the model is trained again."""
        model, (mean_user, mean_item) = compiled.model, compiled.means()
        unknown = {}
        for task in model.graph_key.tasks:
            user, item = model.view(task, mean_user, "user"), model.view(task, mean_item, "item")
            unknown[task.name] = model.retrieval_users(user) if task.kind == "retrieval" else user, item
        present = cls.present(compiled)
        layers = {name: [tf.identity(variable) for variable in each] for name, each in present.layers.items()}
        return replace(present, layers=layers, unknown=unknown)

    def predict(self, task: str, tables: Tables, users: Codes, items: Codes) -> tf.Tensor:
        """Return the predictions `[B]` of a task for pairs of rows of its tables; see `CompiledModel.predict`.

        The layers of the compiled model get the weights of this member, which they keep.
        """
        _assign_layers(self.compiled.model, task, self.layers[task])
        return self.compiled.predict(task, tables, users, items)

    def own_model(self, split: Split) -> JointModel:
        """Return a model that no training changes, with the layers of the heads; its embeddings are none of a split.

        Args:
            split: the training rows of the member.
        """
        model = JointModel(replace(self.compiled.model.graph_key, users=1, items=1), split)
        row = SortedIndex(tf.zeros([1], tf.int32))
        for task in model.graph_key.tasks:
            if task.kind != "retrieval":
                model.predictions(task, self.unknown_tables(task), row, row)  # builds the layers
                _assign_layers(model, task.name, self.layers[task.name])
        return model

    def unknown_tables(self, task: LearntTask) -> Tables:
        """Return the tables of a task of ratings or labels for an unknown user and an unknown item: biases are 0."""
        bias = tf.zeros([int(self.compiled.model.graph_key.rating_biases), 1])
        return Tables(*self.unknown[task.name], bias, bias)


def _assign_layers(model: JointModel, task: str, weights: Sequence[tf.Tensor | tf.Variable]) -> None:
    for variable, weight in zip(model.heads[task].variables, weights, strict=True):
        if weight is not variable:
            variable.assign(weight)


def join_towers(towers: Sequence[Towers]) -> Towers:
    """Return the towers, `[U, K E]` and `[I, K E]`, whose scores are the mean scores of K towers."""
    users, items = zip(*towers, strict=True)
    return tf.concat(users, axis=1) / len(towers), tf.concat(items, axis=1)

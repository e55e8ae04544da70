"""`TrialConfig`, the complete configuration of one model and its training; and the parameters of a study file."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from mtsearch.metrics import METRICS, TaskKind
from mtsearch.study_file.space import Scalar
from mtsearch.text import nearest

Weight = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Losses = Literal["normalized", "tutorial"]


class TrialConfig(BaseModel):
    """The complete configuration of one model and its training; immutable.

    The defaults are those of the multi-task tutorial of TensorFlow Recommenders. With `losses = "tutorial"` the loss
    of a batch is `rating_weight` times its mean squared rating error plus `retrieval_weight` times its *summed*
    retrieval loss; equal weights are therefore a factor of about 5e4 apart at a batch of 8,192 rows. With
    `losses = "normalized"` it is the sum of each task's weight times its mean loss per row, in which 1 is what a
    predictor has that knows nothing: the variance of the training ratings, the logarithm of the number of items, the
    entropy of the share of yes. A softmax over the items of a batch begins below 1, by as much as these are fewer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    losses: Losses = Field(
        default="tutorial",
        description="`normalized`: each loss is 1 for a predictor that knows nothing; `tutorial`: mean squared error "
        "and summed softmax loss, as published.",
    )
    weights: dict[str, Weight] = Field(
        default_factory=dict, description="Weights of the tasks by name, with normalized losses; 1 where left out."
    )
    rating_weight: Weight = Field(default=1.0, description="Weight of the mean squared rating error.")
    retrieval_weight: Weight = Field(default=1.0, description="Weight of the summed retrieval loss.")
    balance: Literal["fixed", "uncertainty", "dwa"] = Field(
        default="fixed",
        description="How the weights change: `fixed` leaves them as they are; `uncertainty` learns a factor for "
        "each (Kendall, Gal, Cipolla, CVPR 2018); `dwa` sets factors each epoch from how fast the losses fell (Liu, "
        "Johns, Davison, CVPR 2019).",
    )
    sharing: Literal["all", "projections", "experts"] = Field(
        default="all",
        description="How tasks use the embeddings: as they are (`all`), through a linear layer of each task "
        "(`projections`), or as a mixture of several linear layers, weighed by each task (`experts`; MMoE: Ma et al., "
        "KDD 2018).",
    )
    experts: int = Field(default=4, ge=2, le=64, description='Number of layers that `sharing = "experts"` mixes.')
    embedding_size: int = Field(
        default=32, ge=1, le=4096, description="D, the size of an embedding of a user or an item."
    )
    retrieval_loss: Literal["in_batch", "corrected", "full", "squared"] = Field(
        default="in_batch",
        description="Softmax over the items of the batch (`in_batch`), the same with the logits corrected by the "
        "items' sampling probability (`corrected`; Yi et al., RecSys 2019), or over the whole catalogue (`full`); or "
        "the squared errors of implicit ALS over all pairs of users and items (`squared`; Hu, Koren, Volinsky, ICDM "
        "2008).",
    )
    unobserved_weight: float = Field(
        default=0.15,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="Weight of every pair of a user and an item beside the weight of 1 of a row, in `squared` (alpha_0 "
        "of Rendle et al., RecSys 2022).",
    )
    temperature: float = Field(
        default=1.0, gt=0, le=1e3, allow_inf_nan=False, description="Divides the scores in the retrieval loss."
    )
    normalize: bool = Field(
        default=False, description="Retrieval scores are cosines: embeddings are L2-normalised for them."
    )
    item_bias: bool = Field(default=False, description="A learnt score per item in retrieval.")
    remove_accidental_hits: bool = Field(
        default=False,
        description="An item is no negative for other rows of the same item in the batch; `full` has none.",
    )
    rating_biases: bool = Field(
        default=False, description="The rating is global mean + user bias + item bias + the output of the layers."
    )
    dot_product: bool = Field(default=False, description="Adds the dot product of both embeddings to the rating.")
    elementwise_product: bool = Field(
        default=False,
        description="The rating layers take the elementwise product of both embeddings too (as in He et al., "
        '"Neural collaborative filtering", WWW 2017).',
    )
    hidden_layers: str = Field(
        default="256-128",
        pattern=r"^([1-9]\d{0,4}(-[1-9]\d{0,4}){0,7})?$",
        description="Widths of the rating layers, such as `256-128`; empty for a linear one.",
    )
    embedding_dropout: Rate = Field(
        default=0.0,
        description="Share of embedding values set to 0 in training; in `squared` for ratings and labels alone.",
    )
    hidden_dropout: Rate = Field(default=0.0, description="Share of hidden values set to 0 in training.")
    optimizer: Literal["adagrad", "adam", "adamw", "sgd"] = Field(
        default="adagrad", description="Optimizer of all weights."
    )
    learning_rate: float = Field(
        default=0.1, gt=0, le=1e3, allow_inf_nan=False, description="Learning rate at the start."
    )
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="Course of the learning rate: `constant`, or `cosine` to 0 over all epochs."
    )
    l2: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="Penalty per batch: l2 * (mean over the batch's rows of the squared norms of both embeddings and "
        "biases). In `squared`, every pair counts for the embeddings as in the loss.",
    )
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description="Decoupled weight decay of `adamw`; other optimizers have none.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="`bfloat16` computes the products between hidden layers with 8 bits of mantissa; all else, and "
        "what is kept, is float32.",
    )
    batch_size: int = Field(default=8192, ge=1, le=2**24, description="B, the rows of a step.")
    epochs: int = Field(default=3, ge=1, le=100_000, description="Epochs at most.")
    patience: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Epochs without a better `monitor` after which training stops; the best epoch's metrics are the "
        "trial's. 0: all epochs are trained and the last one is taken.",
    )
    monitor: str = Field(default="rmse", description="The metric that `patience` watches.")
    seed: int = Field(default=42, ge=0, lt=2**31, description="Seed of initial weights, batch order and dropout masks.")

    @field_validator("monitor")
    @classmethod
    def _require_known_metric(cls, key: str) -> str:
        if key.rpartition(".")[2] not in METRICS:
            raise ValueError(f"unknown metric {key!r}{nearest(key, METRICS)}")
        return key

    @model_validator(mode="after")
    def _require_a_loss(self) -> "TrialConfig":
        if self.losses == "tutorial" and self.rating_weight == 0 and self.retrieval_weight == 0:
            raise ValueError("rating_weight and retrieval_weight are both 0: nothing would be learnt")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_unused(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = written(self)
        # NOTE: configurations of earlier versions must keep their text, so newer keys are written only if they matter.
        # Weights are those of the losses in use.
        used = {
            "losses": self.losses != "tutorial",
            "weights": bool(self.weights),
            "rating_weight": self.losses == "tutorial",
            "retrieval_weight": self.losses == "tutorial",
            "sharing": self.sharing != "all",
            "experts": self.sharing == "experts",
            "elementwise_product": self.elementwise_product,
            "unobserved_weight": self.retrieval_loss == "squared",
        }
        return {key: value for key, value in fields.items() if used.get(key, True)}

    def seeds(self, amount: int) -> tuple[int, ...]:
        """Return this many seeds for repeated trainings: the configuration's own seed and the ones after it."""
        return tuple((self.seed + number) % 2**31 for number in range(amount))

    def weight_of(self, task: str, kind: TaskKind) -> float:
        """Return the weight of a task's loss; with the tutorial's losses that of its kind."""
        if self.losses == "normalized":
            return self.weights.get(task, 1.0)
        return self.rating_weight if kind == "rating" else self.retrieval_weight

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Widths of the rating layers, the one next to the embeddings first."""
        return tuple(int(width) for width in self.hidden_layers.split("-") if width)


LOSS_RATIO = "loss_ratio"
LOSS_WEIGHTS = ("rating_weight", "retrieval_weight")
LARGEST_LOSS_RATIO = 12.0


class LossRatio(BaseModel):
    """The parameter `loss_ratio`: one number in place of both loss weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    loss_ratio: float = Field(
        default=0.0,
        ge=-LARGEST_LOSS_RATIO,
        le=LARGEST_LOSS_RATIO,
        allow_inf_nan=False,
        description="log10(retrieval_weight * batch_size / rating_weight), in place of both weights; 0 weighs the two "
        "losses of a row alike.",
    )


def weights_of_ratio(ratio: float, batch_size: int) -> dict[str, float]:
    """Return both loss weights for a `loss_ratio` r.

    The rating weight is 1 / (1 + 10^r), the weight of the summed retrieval loss 10^r / (1 + 10^r) / batch_size. Per
    row they add up to 1, so that the strength of a penalty does not depend on the ratio.
    """
    retrieval = 10.0**ratio
    return {"rating_weight": 1 / (1 + retrieval), "retrieval_weight": retrieval / (1 + retrieval) / batch_size}


def ratio_of_unit_weights(batch_size: int) -> float:
    """Return the `loss_ratio` that stands for two loss weights of 1."""
    return math.log10(batch_size)


WEIGHT = "weight."
"""What the parameter of a task's weight begins with, before the name of the task."""


class TaskWeight(BaseModel):
    """The parameter `weight.TASK` of any task."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    weight: Weight = Field(default=1.0, description="Weight of the normalized loss of the task.")


def weight_name(task: str) -> str:
    """Return the name of the parameter that is the weight of a task."""
    return WEIGHT + task


def task_of_weight(parameter: str) -> str | None:
    """Return the task whose weight a parameter is; None if it is no task's weight."""
    return parameter.removeprefix(WEIGHT) if parameter.startswith(WEIGHT) else None


def _collect_parameters() -> dict[str, FieldInfo]:
    # Both weights first, then the ratio that may replace them, then all other fields.
    fields = {name: field for name, field in TrialConfig.model_fields.items() if name not in ("losses", "weights")}
    return {**{name: fields.pop(name) for name in LOSS_WEIGHTS}, **LossRatio.model_fields, **fields}


PARAMETERS = _collect_parameters()
"""The parameters that a study file may search or fix beside `weight.TASK`, by name, in the order of display."""

ParameterKind = Literal["whole number", "number", "boolean", "text"]
_PARAMETER_KINDS: dict[type, ParameterKind] = {bool: "boolean", int: "whole number", float: "number", str: "text"}


def is_parameter(name: str) -> bool:
    """Tell whether a study file may search or fix a parameter of this name, for some task."""
    return name in PARAMETERS or bool(task_of_weight(name))


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of parameters in the order in which they are shown: weights of tasks first, then as `PARAMETERS`."""
    order = {name: place for place, name in enumerate(PARAMETERS)}
    return sorted(names, key=lambda name: (order.get(name, -1), name if name not in order else ""))


def default_of(name: str) -> Scalar:
    """Return the default value of a parameter."""
    default: Scalar = PARAMETERS.get(name, TaskWeight.model_fields["weight"]).default
    return default


def kind_of(name: str) -> ParameterKind:
    """Return the kind of a parameter's values: whole number, number, boolean or text."""
    return _PARAMETER_KINDS[type(default_of(name))]


def check_value(name: str, value: object) -> None:
    """Check a value of one parameter; all other parameters have their defaults.

    Raises:
        ValidationError: the value is not allowed; an error without a location is about the other parameters.
    """
    if task_of_weight(name):
        TaskWeight.model_validate({"weight": value})
        return
    model = LossRatio if name == LOSS_RATIO else TrialConfig
    model.model_validate({name: value})


def make_config(values: Mapping[str, Any]) -> TrialConfig:
    """Make a configuration of parameter values; weights of tasks and a `loss_ratio` become what they stand for.

    Args:
        values: of parameters and, beside them, `losses`.

    Raises:
        ValidationError: a value, or the combination of values, is not allowed.
    """
    rest = {name: value for name, value in values.items() if name != LOSS_RATIO and not task_of_weight(name)}
    weights = {task: value for name, value in values.items() if (task := task_of_weight(name))}
    if weights:
        rest["weights"] = weights
    if LOSS_RATIO not in values:
        return TrialConfig.model_validate(rest)
    ratio = LossRatio(loss_ratio=values[LOSS_RATIO]).loss_ratio
    return TrialConfig.model_validate({**rest, **weights_of_ratio(ratio, TrialConfig.model_validate(rest).batch_size)})

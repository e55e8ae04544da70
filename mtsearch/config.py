"""`TrialConfig`: one model and its training, fully resolved."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mtsearch.objectives import METRICS
from mtsearch.study_file.mistakes import nearest

Weight = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class TrialConfig(BaseModel):
    """One model and its training, fully resolved and immutable.

    The defaults are those of the multi-task tutorial of TensorFlow Recommenders. The loss of a batch is
    `rating_weight` times its mean squared rating error plus `retrieval_weight` times its *summed* retrieval loss, as
    in the tutorial; equal weights are therefore a factor of about 5e4 apart at a batch of 8,192 rows.

    Attributes:
        rating_weight: of the mean squared rating error.
        retrieval_weight: of the summed retrieval loss.
        balance: `fixed` leaves both weights as they are; `uncertainty` learns a factor for each (Kendall, Gal,
            Cipolla, CVPR 2018); `dwa` sets factors each epoch from how fast the losses fell (Liu, Johns, Davison,
            CVPR 2019).
        embedding_size: D, of users and items.
        retrieval_loss: softmax over the items of the batch (`in_batch`), the same with the logits corrected by the
            items' sampling probability (`corrected`; Yi et al., RecSys 2019), or over the whole catalogue (`full`).
        temperature: divides the scores in the retrieval loss.
        normalize: retrieval scores are cosines: embeddings are L2-normalised for them.
        item_bias: a learnt score per item in retrieval.
        remove_accidental_hits: an item is no negative for other rows of the same item in the batch; `full` has none.
        rating_biases: the rating is global mean + user bias + item bias + what the layers say.
        dot_product: adds the dot product of both embeddings to the rating.
        hidden_layers: widths of the rating layers, `256-128`; empty for a linear one.
        embedding_dropout: share of embedding values set to 0 in training.
        hidden_dropout: share of hidden values set to 0 in training.
        optimizer: of all weights.
        learning_rate: at the start.
        schedule: of the learning rate: `constant`, or `cosine` to 0 over all epochs.
        l2: penalty per batch: l2 * (mean over the batch's rows of the squared norms of both embeddings and biases).
        weight_decay: decoupled, of `adamw`; other optimisers have none.
        precision: `bfloat16` computes the products between hidden layers with 8 bits of mantissa; all else, and what
            is kept, is float32.
        batch_size: B, rows per step.
        epochs: at most.
        patience: epochs without a better `monitor` after which training stops; the best epoch's metrics are the
            trial's. 0: all epochs are trained and the last one is taken.
        monitor: the metric that `patience` watches.
        seed: of initial weights, batch order and dropout masks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rating_weight: Weight = 1.0
    retrieval_weight: Weight = 1.0
    balance: Literal["fixed", "uncertainty", "dwa"] = "fixed"
    embedding_size: Annotated[int, Field(ge=1, le=4096)] = 32
    retrieval_loss: Literal["in_batch", "corrected", "full"] = "in_batch"
    temperature: Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)] = 1.0
    normalize: bool = False
    item_bias: bool = False
    remove_accidental_hits: bool = False
    rating_biases: bool = False
    dot_product: bool = False
    hidden_layers: Annotated[str, Field(pattern=r"^([1-9]\d{0,4}(-[1-9]\d{0,4}){0,7})?$")] = "256-128"
    embedding_dropout: Rate = 0.0
    hidden_dropout: Rate = 0.0
    optimizer: Literal["adagrad", "adam", "adamw", "sgd"] = "adagrad"
    learning_rate: Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)] = 0.1
    schedule: Literal["constant", "cosine"] = "constant"
    l2: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    batch_size: Annotated[int, Field(ge=1, le=2**24)] = 8192
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 3
    patience: Annotated[int, Field(ge=0, le=100_000)] = 0
    monitor: str = "rmse"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42

    @field_validator("monitor")
    @classmethod
    def _known_metric(cls, key: str) -> str:
        if key not in METRICS:
            raise ValueError(f"unknown metric {key!r}{nearest(key, METRICS)}")
        return key

    @model_validator(mode="after")
    def _some_loss(self) -> "TrialConfig":
        if self.rating_weight == 0 and self.retrieval_weight == 0:
            raise ValueError("rating_weight and retrieval_weight are both 0: nothing would be learnt")
        return self

    def seeds(self, amount: int) -> tuple[int, ...]:
        """Its own seed and the ones after it, for that many trainings of it."""
        return tuple((self.seed + number) % 2**31 for number in range(amount))

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Widths of the rating layers, from the embeddings on."""
        return tuple(int(width) for width in self.hidden_layers.split("-") if width)

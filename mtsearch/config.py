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
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rating_weight: Weight = Field(default=1.0, description="Weight of the mean squared rating error.")
    retrieval_weight: Weight = Field(default=1.0, description="Weight of the summed retrieval loss.")
    balance: Literal["fixed", "uncertainty", "dwa"] = Field(
        default="fixed",
        description="How the two weights change: `fixed` leaves both as they are; `uncertainty` learns a factor for "
        "each (Kendall, Gal, Cipolla, CVPR 2018); `dwa` sets factors each epoch from how fast the losses fell (Liu, "
        "Johns, Davison, CVPR 2019).",
    )
    embedding_size: int = Field(
        default=32, ge=1, le=4096, description="D, the size of an embedding of a user or an item."
    )
    retrieval_loss: Literal["in_batch", "corrected", "full"] = Field(
        default="in_batch",
        description="Softmax over the items of the batch (`in_batch`), the same with the logits corrected by the "
        "items' sampling probability (`corrected`; Yi et al., RecSys 2019), or over the whole catalogue (`full`).",
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
    hidden_layers: str = Field(
        default="256-128",
        pattern=r"^([1-9]\d{0,4}(-[1-9]\d{0,4}){0,7})?$",
        description="Widths of the rating layers, such as `256-128`; empty for a linear one.",
    )
    embedding_dropout: Rate = Field(default=0.0, description="Share of embedding values set to 0 in training.")
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
        "biases).",
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

"""`TrialConfig`: one model and its training, fully resolved."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Weight = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class TrialConfig(BaseModel):
    """One model and its training, fully resolved and immutable.

    The defaults are those of the multi-task tutorial of TensorFlow Recommenders. The loss of a batch is
    `rating_weight` times its mean squared rating error plus `retrieval_weight` times its *summed* retrieval loss, as
    in the tutorial; equal weights are therefore a factor of about 5e4 apart at a batch of 8,192 rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rating_weight: Weight = 1.0
    retrieval_weight: Weight = 1.0
    embedding_size: Annotated[int, Field(ge=1, le=4096)] = 32
    learning_rate: Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)] = 0.1
    batch_size: Annotated[int, Field(ge=1, le=2**24)] = 8192
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 3
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42

    @model_validator(mode="after")
    def _some_loss(self) -> "TrialConfig":
        if self.rating_weight == 0 and self.retrieval_weight == 0:
            raise ValueError("rating_weight and retrieval_weight are both 0: nothing would be learnt")
        return self

"""`loss_ratio`: how much retrieval weighs against rating, in one number that no batch size changes."""

import math

from pydantic import BaseModel, ConfigDict, Field

NAME = "loss_ratio"
WEIGHTS = ("rating_weight", "retrieval_weight")
LIMIT = 12.0


class LossRatio(BaseModel):
    """One number in place of both weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    loss_ratio: float = Field(
        default=0.0,
        ge=-LIMIT,
        le=LIMIT,
        allow_inf_nan=False,
        description="log10(retrieval_weight * batch_size / rating_weight), in place of both weights; 0 weighs the two "
        "losses of a row alike.",
    )


def weights(ratio: float, batch_size: int) -> dict[str, float]:
    """Both weights of a ratio r: 1 / (1 + 10^r), and 10^r / (1 + 10^r) / batch_size of the summed retrieval loss.

    Per row they add up to 1, so that a penalty keeps its meaning whatever the ratio.
    """
    retrieval = 10.0**ratio
    return {"rating_weight": 1 / (1 + retrieval), "retrieval_weight": retrieval / (1 + retrieval) / batch_size}


def of_unit_weights(batch_size: int) -> float:
    """The ratio of two weights of 1."""
    return math.log10(batch_size)

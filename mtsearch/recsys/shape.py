"""What the graph of a model depends on."""

from dataclasses import dataclass
from typing import Self

from mtsearch.config import TrialConfig


@dataclass(frozen=True)
class Shape:
    """What a model's graph depends on; everything else of a `TrialConfig` is an input to it.

    Attributes:
        users, items: rows of the embedding tables, U and I.
        embedding_dropout, hidden_dropout: whether there is any; its rate is an input.
        l2: whether there is any.
        uncertainty: whether the balance of the losses is learnt.
    """

    users: int
    items: int
    embedding_size: int
    retrieval_loss: str
    normalize: bool
    item_bias: bool
    remove_accidental_hits: bool
    rating_biases: bool
    dot_product: bool
    hidden_widths: tuple[int, ...]
    precision: str
    embedding_dropout: bool
    hidden_dropout: bool
    l2: bool
    uncertainty: bool
    optimizer: str

    @classmethod
    def of(cls, config: TrialConfig, users: int, items: int) -> Self:
        """The shape of `config` on tables of that many users and items."""
        return cls(
            users,
            items,
            config.embedding_size,
            config.retrieval_loss,
            config.normalize,
            config.item_bias,
            config.remove_accidental_hits and config.retrieval_loss != "full",
            config.rating_biases,
            config.dot_product,
            config.hidden_widths,
            config.precision,
            embedding_dropout=config.embedding_dropout > 0,
            hidden_dropout=config.hidden_dropout > 0 and bool(config.hidden_widths),
            l2=config.l2 > 0,
            uncertainty=config.balance == "uncertainty",
            optimizer=config.optimizer,
        )

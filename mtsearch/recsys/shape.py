"""What the graph of a model depends on."""

from dataclasses import dataclass
from typing import Self

from mtsearch.config import TrialConfig

LEAST_LARGE, LARGE_BATCHES = 10_000, 4
"""A table is large from so many rows on, and from so many times the rows of a batch.

NOTE: Adagrad on one table of D = 32, by the rows of a batch that differ, ms on 2 busy cores, over the whole table and
over these rows: 4,000 of 10,000 1.0 and 1.3; 4,000 of 20,000 1.3 and 1.4; 4,200 of 62,000 3.7 and 1.7; 7,200 of 162,000
11.8 and 4.3. Both give the same, to rounding.
"""


@dataclass(frozen=True)
class Shape:
    """What a model's graph depends on; everything else of a `TrialConfig` is an input to it.

    Attributes:
        users, items: rows of the embedding tables, U and I.
        large_users, large_items: a step touches few of the table's rows, and is made to touch no other; see `is_large`.
        embedding_dropout, hidden_dropout: whether there is any; its rate is an input.
        l2: whether there is any.
        uncertainty: whether the balance of the losses is learnt.
    """

    users: int
    items: int
    large_users: bool
    large_items: bool
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
            is_large(users, config.batch_size),
            is_large(items, config.batch_size),
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


def is_large(rows: int, batch_size: int) -> bool:
    """Whether a pass over a table of that many rows costs more than sorting out which of them a batch has."""
    return rows >= max(LEAST_LARGE, LARGE_BATCHES * batch_size)

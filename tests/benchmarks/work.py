"""Count the arithmetic of a trial that every implementation of the tutorial's model needs."""

import numpy as np

from mtsearch.data import Split
from mtsearch.models.device import EpochOrders
from mtsearch.study_file.config import TrialConfig

HIDDEN = (256, 128)
PASSES = 3  # forward, backward to the weights, backward to the inputs: a matrix product each


def flops(split: Split, config: TrialConfig) -> float:
    """Return the floating-point operations of a trial's matrix products; a multiply-add counts 2.

    Per row the rating head from its first hidden layer on; per step the first layer on the batch's unique users and
    items, and the retrieval scores of its unique users against its unique items:

        N * E * 3 * 2 * (256 * 128 + 128)  +  sum over steps of 3 * 2 * D * ((u + i) * 256 + u * i)
    """
    head = HIDDEN[0] * HIDDEN[1] + HIDDEN[1]
    total = float(len(split.train)) * config.epochs * head
    order = EpochOrders(split.train.items).draw(config.batch_size, config.seed, 1).rows
    for start in range(0, len(order), config.batch_size):
        batch = order[start : start + config.batch_size]
        users, items = (len(np.unique(column[batch])) for column in (split.train.users, split.train.items))
        total += config.epochs * config.embedding_size * ((users + items) * HIDDEN[0] + users * items)
    return 2 * PASSES * total

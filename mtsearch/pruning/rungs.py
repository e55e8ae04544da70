"""The epochs at which trials are judged."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rungs:
    """Epochs grace, grace * reduction, grace * reduction ** 2, ...

    Attributes:
        grace: the first of them, from 1 on.
        reduction: from each to the next, from 2 on.

    Raises:
        ValueError: one of them is smaller.
    """

    grace: int = 2
    reduction: int = 2

    def __post_init__(self) -> None:
        if self.grace < 1 or self.reduction < 2:
            raise ValueError(f"grace = {self.grace}, reduction = {self.reduction}: at least 1 and at least 2")

    def __contains__(self, epoch: int) -> bool:
        steps, rest = divmod(epoch, self.grace)
        while steps > 1 and steps % self.reduction == 0:
            steps //= self.reduction
        return rest == 0 and steps == 1

    def up_to(self, epochs: int) -> list[int]:
        """Those that a trial of so many epochs reaches."""
        return [epoch for epoch in range(1, epochs + 1) if epoch in self]

"""How a retraining looks while it goes on: a bar on a terminal, plain lines elsewhere."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mtsearch.trial import EpochMetrics

_LINES = 10
"""Of each seed, where there is no bar."""


class Epochs:
    """Shows epochs as they end, with their training losses.

    Args:
        seeds: how many are trained.
        epochs: of each.
    """

    def __init__(self, seeds: int, epochs: int) -> None:
        self._epochs = epochs
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("epochs", total=seeds * epochs, losses="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        self._bar.stop()

    def ended(self, seed: int, epoch: EpochMetrics) -> None:
        """One more step of the bar, or a line for every tenth of a seed."""
        losses = "  ".join(f"{name} loss {loss:.4f}" for name, loss in epoch.losses.items())
        self._bar.update(self._task, advance=1, description=f"seed {seed}", losses=losses)
        tenths, before = ((number * _LINES) // self._epochs for number in (epoch.epoch, epoch.epoch - 1))
        if self._bar.disable and tenths > before:
            sys.stderr.write(f"seed {seed}  epoch {epoch.epoch}/{self._epochs}  {losses}  {epoch.seconds:.1f} s\n")
            sys.stderr.flush()

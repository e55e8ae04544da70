"""How a report looks while it goes on: a bar on a terminal, plain lines elsewhere."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mtsearch.objectives import Metric
from mtsearch.search.judgements import Judged


class Trainings:
    """Shows trainings as they are judged.

    Args:
        objectives: the metrics of the study's objectives.
    """

    def __init__(self, objectives: tuple[Metric, ...]) -> None:
        self._objectives = objectives
        self._done = self._all = 0
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("trainings", total=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        self._bar.stop()

    def begun(self, done: int, of: int) -> None:
        """So many trainings are there, of so many."""
        self._done, self._all = done, of
        self._bar.update(self._task, completed=done, total=of)
        sys.stderr.write(f"{self.state()} done\n")

    def went_on(self, trial: int, seed: int, share: float) -> None:
        """A training has come so far; it counts when it is judged."""
        self._bar.start()  # not before: what is said of the data would stand in its line
        completed = self._done + 0.99 * share
        self._bar.update(self._task, completed=completed, description=f"trial {trial}, seed {seed}")

    def ended(self, trial: int, seed: int, judged: Judged) -> None:
        """One more training, a line where there is no bar; one that failed does not count and always has its line."""
        values = "  ".join(f"{m.key} {judged.metrics[m.key]:.4f}" for m in self._objectives if m.key in judged.metrics)
        self._done += not judged.failure
        self._bar.update(self._task, completed=self._done)
        if judged.failure:
            line = f"trial {trial}, seed {seed} failed: {judged.failure}"
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            self._say(f"trial {trial}  seed {seed}  {values}  [{self._done}/{self._all}]")

    def state(self) -> str:
        """`3 of 35 trainings`."""
        return f"{self._done} of {self._all} trainings"

    def _say(self, line: str) -> None:
        """Only where there is no bar."""
        if self._bar.disable:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

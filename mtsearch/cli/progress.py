"""How a run looks while it goes on: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from mtsearch.cli.saying import readers_may_leave, say
from mtsearch.objectives import METRICS
from mtsearch.search.runner import TrialEnd


class Progress:
    """Shows trials as they end, and the best of each objective so far.

    Args:
        objectives: keys of their metrics.

    Attributes:
        until: how many counting trials the study shall have.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self._metrics = [METRICS[key] for key in objectives]
        self._best: dict[str, tuple[float, int]] = {}
        self.until = 0
        console = Console(stderr=True)
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),  # 80 columns hold all of it
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        with readers_may_leave():
            self._bar.stop()

    def begun(self, done: int, until: int) -> None:
        """The study has `done` counting trials and shall have `until`."""
        self.until = until
        self._bar.start()
        self._task = self._bar.add_task("trials", total=until, completed=done, best="")
        self._say(f"{done} trials done, {max(until - done, 0)} to run")

    def trial_ended(self, end: TrialEnd) -> None:
        """One more line, or one more step of the bar."""
        self._remember(end)
        if self._task is not None:
            self._bar.update(self._task, completed=end.counting, best=self._best_line())
        if end.values is None:
            what = "pruned" if end.state == "pruned" else "failed" if end.counted else "was not finished"
            self._bar.console.print(f"trial {end.trial} {what}: {end.reason}", markup=False, highlight=False)
            return
        values = "  ".join(f"{m.key} {v:.4f}" for m, v in zip(self._metrics, end.values, strict=True))
        over = "" if end.feasible else "  over [constraints]"
        self._say(f"trial {end.trial}  {values}  {end.seconds:.1f} s{over}  [{end.counting}/{self.until}]")

    def _remember(self, end: TrialEnd) -> None:
        values = end.values if end.values and end.feasible else ()
        for metric, value in zip(self._metrics, values, strict=False):
            best = self._best.get(metric.key)
            if best is None or metric.sign * value < metric.sign * best[0]:
                self._best[metric.key] = (value, end.trial)

    def _best_line(self) -> str:
        # The numbers of the trials of three objectives would be wider than a terminal.
        numbered = len(self._metrics) <= 2
        return " · ".join(
            f"{key} {value:.3f}" + (f" (#{trial})" if numbered else "") for key, (value, trial) in self._best.items()
        )

    def _say(self, line: str) -> None:
        """Only where there is no bar."""
        if self._bar.disable:
            say(line)

"""Output that several commands share: messages on stderr, results on stdout, progress bars, a study's summary."""

from __future__ import annotations

import csv as csv_module
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from mtsearch.metrics import Metric
from mtsearch.text import count, listing, number, plain, quote_id, reference_names, shorten

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from mtsearch.models.trainer import EpochMetrics
    from mtsearch.report import Study
    from mtsearch.search.attributes import TestResult
    from mtsearch.search.results import StudyResults
    from mtsearch.search.trial import TrialEnd
    from mtsearch.serving.bulk import BulkCount


def note_unknown(what: str, id_: str, instead: str) -> None:
    """Say that the model was not trained on a user or an item, and name the answer that is given instead."""
    click.echo(f"the model was not trained on {what} {quote_id(id_)}; {instead}", err=True)


def note_done(done: BulkCount, source: Path, output: Path, noun: str) -> None:
    """Say how many rows of a file were answered and, if its column names did not tell, which columns held the ids."""
    if done.by_place:
        columns = zip(done.by_place, ("user", "item"), strict=False)
        taken = listing([f"{quote_id(found)} as {name}" for found, name in columns])
        click.echo(f"{source}: no column is named user; took {taken}", err=True)
    click.echo(f"wrote {count(done.written, 'row')} for {count(done.read, noun)} to {output}", err=True)
    if done.unknown:
        click.echo(f"{done.unknown:,} of them have an id that the model was not trained on; they are marked", err=True)


_FAILURE_WORDS = {"model": "failed", "interrupted": "interrupted", "died": "died", "error": "stopped by an error"}
_MOST_SHOWN = 6
"""Number of reasons, and of initial trials, that the summary of a study names."""


def outcome_lines(results: StudyResults) -> Iterator[str]:
    """Yield the summary of a study: numbers of trials by result, hypervolume, reasons of failures, initial trials."""
    yield ", ".join([count(results.counting, "trial"), *_states_text(results), _hypervolume_text(results)])
    yield from _failure_lines(results)
    if results.initial:
        yield _initial_trials_line(results)


def _states_text(results: StudyResults) -> list[str]:
    """Return the numbers of pruned, failed and infeasible trials, each with its word; numbers of 0 are left out."""
    kinds: Counter[str] = Counter(failure.kind for failure in results.failures)
    named = [f"{kinds[kind]} {word}" for kind, word in _FAILURE_WORDS.items() if kinds[kind]]
    if pruned := results.states.get("pruned"):
        named.insert(0, f"{pruned} pruned")
    return [*named, f"{len(results.infeasible)} over [constraints]"] if results.infeasible else named


def _hypervolume_text(results: StudyResults) -> str:
    """Return the hypervolume as text, with the box from reference to ideal that it is a share of."""
    volume = f"hypervolume {number(results.hypervolume)}"
    if results.reference is None:
        return volume
    corners = zip(results.objectives, results.reference, results.ideal, strict=True)
    sides = ", ".join(f"{metric.label} {number(start)} to {ideal:g}" for metric, start, ideal in corners)
    whole = "box" if len(results.objectives) > 1 else "range"
    return f"{volume} (of the {whole} from {reference_names(results.objectives)} to ideal: {sides})"


def _failure_lines(results: StudyResults) -> Iterator[str]:
    """Yield the most frequent reasons of failures, each with its number of trials; interruptions are left out."""
    failures = [failure for failure in results.failures if failure.kind != "interrupted"]
    reasons = Counter((_FAILURE_WORDS[failure.kind], failure.reason) for failure in failures)
    # The most frequent reasons come first; the others are only counted.
    for (word, reason), times in reasons.most_common(_MOST_SHOWN):
        yield f"{times} {word}: {shorten(plain(reason), 200)}"
    if len(reasons) > _MOST_SHOWN:
        yield f"and {count(len(reasons) - _MOST_SHOWN, 'other reason')}"


def _initial_trials_line(results: StudyResults) -> str:
    """Return a line with the trials that the study began with, and which of them are on the front."""
    on_front = {row.trial for row in results.front}
    front = "on the front" if len(results.objectives) > 1 else "the best"
    named = [
        f"{plain(label)} = trial {trial}{f' ({front})' if trial in on_front else ''}"
        for trial, label in results.initial.items()
    ]
    more = [f"and {len(named) - _MOST_SHOWN} more"] if len(named) > _MOST_SHOWN else []
    return f"initial trials: {', '.join([*named[:_MOST_SHOWN], *more])}"


def read_study(name: str | None, storage: str | None, in_full: bool = False) -> Study:
    """Load a study; if the user named none, print the name of the loaded one on stderr.

    Args:
        name: the study's name; None loads the study written last.
        storage: URL or path.
        in_full: also compute the importance of each parameter.
    """
    from mtsearch import api

    results = api.load_study(name, storage, importances=in_full)
    if name is None:
        click.echo(f"study {results.name}", err=True)
    return results


def emit(
    output_format: str,
    table: Callable[[], Table],
    rows: Callable[[], Sequence[dict[str, Any]]],
    csv: Callable[[], str],
) -> None:
    """Print a result on stdout as a table, JSON or CSV.

    Args:
        output_format: `table`, `json` or `csv`.
        table, rows, csv: functions that make the form; only the one in use is called.
    """
    if output_format == "json":
        click.echo(json.dumps(rows(), indent=2, allow_nan=False))
    elif output_format == "csv":
        click.echo(csv(), nl=False)
    else:
        from rich.console import Console

        Console().print(table())


def plain_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows of plain values as CSV text with a header line."""
    text = io.StringIO()
    writer = csv_module.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class _Progress:
    """Progress bar on a terminal, and plain lines on stderr without one.

    Args:
        field: name of a text that the bar shows after the count; empty for none.
    """

    def __init__(self, field: str = "") -> None:
        self._bar = _make_bar(field)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        with tolerate_closed_stderr():
            self._bar.stop()

    def _say(self, line: str) -> None:
        """Write a line if there is no bar."""
        if self._bar.disable:
            say(line)

    def _say_always(self, line: str) -> None:
        """Write a line, above the bar if there is one."""
        self._bar.console.print(line, markup=False, highlight=False)


def _make_bar(field: str) -> Progress:
    """Return a progress bar on stderr, disabled unless stderr is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),  # 80 columns hold all of it
        MofNCompleteColumn(),
        *([TextColumn(f"{{task.fields[{field}]}}")] if field else []),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=not console.is_terminal,
    )


class TrialProgress(_Progress):
    """Progress of a run: a line or a step for each trial that ends, and the best value of each objective so far.

    Args:
        objectives: the metrics that the study optimises.

    Attributes:
        until: how many counting trials the study shall have.
    """

    def __init__(self, objectives: Sequence[Metric]) -> None:
        super().__init__("best")
        self._metrics = objectives
        self._best: dict[str, tuple[float, int]] = {}
        self.until = 0
        self._task: TaskID | None = None

    def start(self, done: int, until: int) -> None:
        """Start the bar with the counting trials that the study has (`done`) and that it shall have (`until`)."""
        self.until = until
        self._bar.start()
        self._task = self._bar.add_task("trials", total=until, completed=done, best="")
        self._say(f"{done} trials done, {max(until - done, 0)} to run")

    def add_trial(self, end: TrialEnd) -> None:
        """Write the line of a trial that has ended, or advance the bar."""
        self._update_best(end)
        if self._task is not None:
            self._bar.update(self._task, completed=end.counting, best=self._best_line())
        if end.values is None:
            verb = "pruned" if end.state == "pruned" else "failed" if end.counted else "was not finished"
            self._say_always(f"trial {end.trial} {verb}: {end.reason}")
            return
        values = "  ".join(f"{m.key} {v:.4f}" for m, v in zip(self._metrics, end.values, strict=True))
        over = "" if end.feasible else "  over [constraints]"
        self._say(f"trial {end.trial}  {values}  {end.seconds:.1f} s{over}  [{end.counting}/{self.until}]")

    def _update_best(self, end: TrialEnd) -> None:
        """Update the best value of each objective; trials over a constraint are left out."""
        values = end.values if end.values and end.feasible else ()
        for metric, value in zip(self._metrics, values, strict=False):
            best = self._best.get(metric.key)
            if best is None or metric.sign * value < metric.sign * best[0]:
                self._best[metric.key] = (value, end.trial)

    def _best_line(self) -> str:
        """Return the best value of each objective and, for one or two objectives, the number of its trial."""
        # With three objectives the line with trial numbers would be wider than a terminal.
        numbered = len(self._metrics) <= 2
        return " · ".join(
            f"{key} {value:.3f}" + (f" (#{trial})" if numbered else "") for key, (value, trial) in self._best.items()
        )


_LINES_OF_A_SEED = 10
"""Number of lines that are written for each seed if there is no bar."""


class EpochProgress(_Progress):
    """Progress of a training: a step or a line for epochs that end, with their losses.

    Args:
        seeds: of the trainings.
        epochs: number of epochs of each training.
        members: number of consecutive seeds that make a model.
    """

    def __init__(self, seeds: Sequence[int], epochs: int, members: int = 1) -> None:
        super().__init__("losses")
        self._epochs = epochs
        self._names = {seed: f"seed {seed}{_member_text(place % members, members)}" for place, seed in enumerate(seeds)}
        self._task = self._bar.add_task("epochs", total=len(seeds) * epochs, losses="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def add_epoch(self, seed: int, epoch: EpochMetrics) -> None:
        """Advance the bar by an epoch, or write a line at every tenth of a seed's epochs."""
        losses = "  ".join(f"{name} loss {loss:.4f}" for name, loss in epoch.losses.items())
        self._bar.update(self._task, advance=1, description=self._names[seed], losses=losses)
        # Without a bar a line is written only when another tenth of the epochs is done.
        tenths, before = ((number * _LINES_OF_A_SEED) // self._epochs for number in (epoch.epoch, epoch.epoch - 1))
        if self._bar.disable and tenths > before:
            say(f"{self._names[seed]}  epoch {epoch.epoch}/{self._epochs}  {losses}  {epoch.seconds:.1f} s")


def _member_text(place: int, members: int) -> str:
    """Return which member of a model is being trained, such as `, member 2 of 3`; empty for a single one."""
    return f", member {place + 1} of {members}" if members > 1 else ""


class TestProgress(_Progress):
    """Progress of a test report: a step or a line for each training that is tested.

    Args:
        objectives: the metrics of the study's objectives.
        members: number of trainings that make a model.
    """

    def __init__(self, objectives: tuple[Metric, ...], members: int = 1) -> None:
        super().__init__()
        self._objectives, self._members = objectives, members
        self._done = self._all = 0
        self._task = self._bar.add_task(self._counted, total=None)

    def start(self, done: int, of: int) -> None:
        """Start with the number of trainings or models that are stored already (`done`) and that of all (`of`)."""
        self._done, self._all = done, of
        self._bar.update(self._task, completed=done, total=of)
        say(f"{self.count_text()} done")

    def move(self, trial: int, seed: int, share: float) -> None:
        """Move the bar to a model's share of its epochs, from 0 to 1; the model counts once it is tested."""
        self._bar.start()  # not before, because messages on the data would be written into the bar's line
        completed = self._done + 0.99 * share
        place = min(int(share * self._members), self._members - 1)  # of the member that is trained next
        description = f"trial {trial}, seed {seed}{_member_text(place, self._members)}"
        self._bar.update(self._task, completed=completed, description=description)

    def add_training(self, trial: int, seed: int, result: TestResult) -> None:
        """Count a training that was tested, or write why it failed; a failed one does not count."""
        values = "  ".join(f"{m.key} {result.metrics[m.key]:.4f}" for m in self._objectives if m.key in result.metrics)
        self._done += not result.failure
        self._bar.update(self._task, completed=self._done)
        if result.failure:
            self._say_always(f"trial {trial}, seed {seed} failed: {result.failure}")
        else:
            self._say(f"trial {trial}  seed {seed}  {values}  [{self._done}/{self._all}]")

    def count_text(self) -> str:
        """Return the progress as text, such as `3 of 35 trainings`."""
        return f"{self._done} of {self._all} {self._counted}"

    @property
    def _counted(self) -> str:
        return "trainings" if self._members == 1 else f"models of {self._members} members"


_SECONDS_OF_SILENCE = 10.0
"""Time after which a training says how far it is, if there is no bar."""


class BaselineProgress(_Progress):
    """Progress of the strong baselines: a bar in percent, or a line when one is trained and every ten seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._task = self._bar.add_task("baselines", total=100)
        self._said = time.monotonic()

    def move(self, name: str, share: float) -> None:
        """Move the bar to a training's finished share, from 0 to 1."""
        self._bar.start()  # not before, because messages on the data would be written into the bar's line
        self._bar.update(self._task, completed=int(100 * share), description=name)
        now = time.monotonic()
        if share == 1 or now - self._said >= _SECONDS_OF_SILENCE:
            self._say(f"{name}: {share:.0%} trained")
            self._said = now


def say(line: str) -> None:
    """Write a line to stderr."""
    with tolerate_closed_stderr():
        click.echo(line, err=True)


@contextmanager
def tolerate_closed_stderr() -> Iterator[None]:
    """Return a context in which a stderr that cannot be written is replaced by the null device, and the work goes on.

    This happens when the terminal is closed, when the disk is full, or when the reader of a pipe has ended: Ctrl-C also
    ends the `tee` of `mtsearch run 2>&1 | tee log`.
    """
    try:
        yield
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)

"""The command `mtsearch retrain`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtsearch.cli import options
from mtsearch.text import count, listing, plain

if TYPE_CHECKING:
    from rich.table import Table

    from mtsearch.evaluation.confidence import Interval
    from mtsearch.retraining import On, Retrained


@click.command()
@click.argument("export", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR",
              help="Model folder to write.  [default: models/ and the name of EXPORT]")  # fmt: skip
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, metavar="K",
              help="Number of models with different seeds; the mean and its 95 % interval are shown.")  # fmt: skip
@click.option("--members", type=click.IntRange(1, 100), default=1, show_default=True, metavar="M",
              help="Number of trainings that make one model, each with a seed of its own: their mean predictions and "
              "scores.")  # fmt: skip
@click.option("--on", type=click.Choice(["train", "train+validation", "all"]), default="train+validation",
              show_default=True,
              help="Rows to train on. train repeats the trial. all uses the test rows too, for a model in service; it "
              "cannot be tested.")  # fmt: skip
def command(export: Path, output: Path | None, seeds: int, members: int, on: On) -> None:
    """Train the configuration in EXPORT again, evaluate it once on the test rows, and write a model folder.

    EXPORT is a file that `mtsearch export` wrote.
    """
    if seeds > 1 and on == "all":
        raise click.UsageError("--seeds cannot be used with --on all: no rows are left to test further seeds on")
    options.show_messages()

    from rich.console import Console

    from mtsearch import api
    from mtsearch.cli.console import EpochProgress

    loaded = api.load_export(export)
    folder = output or Path("models") / export.stem
    try:
        with EpochProgress(loaded.config.seeds(seeds * members), api.retrained_epochs(loaded), members) as progress:
            result = api.retrain(loaded, folder, seeds=seeds, members=members, on=on, on_epoch=progress.add_epoch)
    except KeyboardInterrupt:
        click.echo("interrupted; nothing was written", err=True)
        raise SystemExit(130) from None
    Console().print(retrained_table(result))
    for line in api.retraining_verdict(result):
        click.echo(line, err=True)
    click.echo(f"model in {result.folder}", err=True)


def retrained_table(result: Retrained) -> Table:
    """Return the table of test metrics, the trial's validation metrics and the baselines; the objectives come first."""
    from rich.text import Text

    from mtsearch.report.tables import as_text, bare_table, breakable, heading

    metrics, objectives = result.metrics, result.objectives
    columns = _table_columns(result)
    table = bare_table(f"Trained on {result.on}, {count(result.epochs, 'epoch')}, {_models_text(result)}")
    table.caption = as_text(" · ".join(_table_legend(result)))
    table.caption_justify = "left"
    table.add_column("", overflow="fold")
    for name, cells_of in columns.items():
        # The names of metrics and columns are folded in a narrow terminal, numbers never.
        widest = max(map(len, cells_of.values()), default=0)
        table.add_column(Text(breakable(plain(name))), justify="right", overflow="fold", min_width=widest)
    for metric in [*objectives, *(metric for metric in metrics.values() if metric not in objectives)]:
        cells = [column.get(metric.key, "") for column in columns.values()]
        if any(cells):
            table.add_row(*map(as_text, [heading(metric), *cells]), style="bold" if metric in objectives else None)
    return table


def _models_text(result: Retrained) -> str:
    """Return the number of seeds, or of models of several members, such as `2 models of 3 members`."""
    if result.members == 1:
        return count(len(result.seeds), "seed")
    return f"{count(len(result.groups), 'model')} of {count(result.members, 'member')}"


def _table_columns(result: Retrained) -> dict[str, dict[str, str]]:
    """Return the cells of each column by the key of their metric."""
    columns = {}
    if result.test:
        columns["test"] = _intervals_text(result.test)
    if result.validation:
        columns["validation"] = _intervals_text(result.validation)
    columns[f"trial {result.export.provenance.trial}"] = _plain_column(result.export.provenance.metrics)
    return columns | {name: _plain_column(metrics) for name, metrics in result.baselines.items()}


def _intervals_text(metrics: Mapping[str, Interval]) -> dict[str, str]:
    return {key: _interval_text(interval) for key, interval in metrics.items()}


def _interval_text(interval: Interval) -> str:
    from mtsearch.report.tables import four_decimals

    if len(interval.values) == 1:
        return four_decimals(interval.mean)
    return f"{four_decimals(interval.mean)} ±{four_decimals(interval.high - interval.mean)}"


def _plain_column(metrics: Mapping[str, float]) -> dict[str, str]:
    from mtsearch.report.tables import four_decimals

    return {key: four_decimals(value) for key, value in metrics.items()}


def _table_legend(result: Retrained) -> list[str]:
    """Return the notes below the table: arrows, columns and intervals."""
    lines = ["↓ lower is better, ↑ higher", f"trial {result.export.provenance.trial}: its validation metrics"]
    if result.baselines:
        lines.append(f"{listing(list(result.baselines))}: on test, trained on the same rows")
    if len(result.groups) > 1:
        lines.append(f"±: half of the 95 % interval of the mean over {'seeds' if result.members == 1 else 'models'}")
    return lines

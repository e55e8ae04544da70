"""`mtsearch retrain`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtsearch.cli import options

if TYPE_CHECKING:
    from mtsearch.retraining import On


@click.command()
@click.argument("export", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR",
              help="[default: models/ and the name of EXPORT]")  # fmt: skip
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, metavar="K",
              help="Trainings, each with a seed of its own: their mean and its 95 % interval.")  # fmt: skip
@click.option("--on", type=click.Choice(["train", "train+validation", "all"]), default="train+validation",
              show_default=True,
              help="Rows to train on: train repeats the trial; all is for shipping, and is not judged.")  # fmt: skip
def command(export: Path, output: Path | None, seeds: int, on: "On") -> None:
    """Train the configuration in EXPORT again, judge it once on the test rows, and write a model folder.

    EXPORT is what `mtsearch export` wrote.
    """
    if seeds > 1 and on == "all":
        raise click.UsageError("--seeds with --on all: no rows are left to judge further seeds on")
    options.show_messages()

    from rich.console import Console

    from mtsearch.cli.epochs import Epochs
    from mtsearch.export_file import Export
    from mtsearch.retraining import retrain, retrained_epochs
    from mtsearch.retraining.table import retrained_table
    from mtsearch.retraining.verdict import verdict

    loaded = Export.load(export)
    folder = output or Path("models") / export.stem
    try:
        with Epochs(seeds, retrained_epochs(loaded)) as progress:
            result = retrain(loaded, folder, seeds=seeds, on=on, on_epoch=progress.ended)
    except KeyboardInterrupt:
        click.echo("interrupted; nothing was written", err=True)
        raise SystemExit(130) from None
    Console().print(retrained_table(result))
    for line in verdict(result):
        click.echo(line, err=True)
    click.echo(f"model in {result.folder}", err=True)

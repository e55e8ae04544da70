"""`mtsearch report`."""

import json

import click

from mtsearch.cli import options


@click.command(cls=options.OfOneStudy)
@options.study
@options.storage
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, metavar="K",
              help="Trainings of each trial, with its own seed and the ones after it.")  # fmt: skip
@options.table_or_json
def command(study: str | None, storage: str | None, seeds: int, output_format: str) -> None:
    """Train the front's trials on training and validation rows, and judge each training once on the test rows.

    Shows means and 95 % intervals beside the baselines, how far validation was too good, and who falls off the front.
    Every training is kept in the study: Ctrl-C loses none, the same command goes on, and `mtsearch plot` shows them.
    """
    options.show_messages()

    from mtsearch import api
    from mtsearch.cli.output import read_study
    from mtsearch.cli.trainings import Trainings
    from mtsearch.report.on_test import on_test_json

    record = read_study(study, storage)
    progress = Trainings(record.objectives)
    try:
        with progress:
            found = api.report_on(
                record.name,
                storage,
                seeds=seeds,
                begun=progress.begun,
                on_epoch=progress.went_on,
                on_judged=progress.ended,
            )
    except KeyboardInterrupt:
        click.echo(f"interrupted; {progress.state()} are kept, and the same command goes on", err=True)
        raise SystemExit(130) from None
    if output_format == "json":
        click.echo(json.dumps(on_test_json(found), indent=2, allow_nan=False))
        return
    from rich.console import Console

    from mtsearch.report.commands import command as command_for
    from mtsearch.report.on_test_verdict import on_test_verdict
    from mtsearch.report.on_test_view import on_test_table
    from mtsearch.search.storage import masked

    Console().print(on_test_table(found))
    for line in on_test_verdict(found):
        click.echo(line, err=True)
    click.echo(f"next: {command_for('plot', record.name, storage and masked(storage))}", err=True)

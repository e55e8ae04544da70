"""The command `mtsearch report`."""

import json

import click

from mtsearch.cli import options


@click.command(cls=options.OfOneStudy)
@options.study
@options.storage
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, metavar="K",
              help="Models of each trial, with the trial's own seed and the seeds after it.")  # fmt: skip
@click.option("--members", type=click.IntRange(1, 100), default=1, show_default=True, metavar="M",
              help="Number of trainings that make one model of a trial, each with a seed of its own.")  # fmt: skip
@options.table_or_json
def command(study: str | None, storage: str | None, seeds: int, members: int, output_format: str) -> None:
    """Train the front's trials on training and validation rows, and evaluate each training once on the test rows.

    Shows means and 95 % intervals, the baselines, how much better the validation values were, and which trials leave
    the front on the test rows. Every training is stored in the study. After Ctrl-C the same command goes on, and
    `mtsearch plot` shows the results.
    """
    options.show_messages()

    from mtsearch import api
    from mtsearch.cli.console import TestProgress, read_study
    from mtsearch.report.test_report import report_json

    results = read_study(study, storage)
    progress = TestProgress(results.objectives, members)
    try:
        with progress:
            found = api.report_on(
                results.name,
                storage,
                seeds=seeds,
                members=members,
                begun=progress.start,
                on_epoch=progress.move,
                on_tested=progress.add_training,
            )
    except KeyboardInterrupt:
        click.echo(f"interrupted; {progress.count_text()} are stored; run the same command again to go on", err=True)
        raise SystemExit(130) from None
    if output_format == "json":
        click.echo(json.dumps(report_json(found), indent=2, allow_nan=False))
        return
    from rich.console import Console

    from mtsearch.report.test_report import report_table, report_verdict
    from mtsearch.text import shell_command

    Console().print(report_table(found))
    for line in report_verdict(found):
        click.echo(line, err=True)
    click.echo(f"next: {shell_command('plot', results.name, storage and api.mask_storage(storage))}", err=True)

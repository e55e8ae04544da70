"""`mtsearch front`."""

import click

from mtsearch.cli import options
from mtsearch.cli.output import emit


@click.command(cls=options.OfOneStudy)
@options.study
@options.storage
@options.output_format
def command(study: str | None, storage: str | None, output_format: str) -> None:
    """Show the front of a study beside the baselines."""
    from mtsearch.cli.outcome import outcome_lines
    from mtsearch.cli.output import read_study
    from mtsearch.report import tables
    from mtsearch.report.references import verdict

    record = read_study(study, storage)
    emit(
        output_format,
        table=lambda: tables.front_table(record),
        rows=lambda: tables.front_rows(record),
        csv=lambda: tables.front_csv(record),
    )
    if output_format == "table":
        click.echo(verdict(record), err=True)
        for line in outcome_lines(record):
            click.echo(line, err=True)

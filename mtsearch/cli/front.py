"""The command `mtsearch front`."""

import click

from mtsearch.cli import options
from mtsearch.cli.console import emit
from mtsearch.report.tables import front_csv, front_rows, front_table


@click.command(cls=options.OfOneStudy)
@options.study
@options.storage
@options.output_format
def command(study: str | None, storage: str | None, output_format: str) -> None:
    """Show the Pareto front of a study (the best compromises between its objectives) and the baselines."""
    from mtsearch.cli.console import outcome_lines, read_study
    from mtsearch.report.tables import verdict

    results = read_study(study, storage)
    emit(
        output_format,
        table=lambda: front_table(results),
        rows=lambda: front_rows(results),
        csv=lambda: front_csv(results),
    )
    if output_format == "table":
        click.echo(verdict(results), err=True)
        for line in outcome_lines(results):
            click.echo(line, err=True)

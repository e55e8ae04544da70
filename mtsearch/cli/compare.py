"""`mtsearch compare`."""

import json
from pathlib import Path

import click

from mtsearch.cli import options


@click.command()
@click.argument("studies", nargs=-1, metavar="STUDY STUDY...")
@options.storage
@options.table_or_json
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="PLACE",
              help="A page as well: a folder, or a file that ends in .html.")  # fmt: skip
def command(studies: tuple[str, ...], storage: str | None, output_format: str, output: Path | None) -> None:
    """Show what sets studies apart: fronts, hypervolumes, progress, definitions; the first is the measure."""
    if len(set(studies)) < len(studies) or len(studies) < 2:
        raise click.UsageError("name two different studies or more; `mtsearch studies` lists them")
    from mtsearch import api
    from mtsearch.report.comparison import comparison_json
    from mtsearch.report.comparison_table import comparison_table, difference_lines

    compared = api.compare(studies, storage)
    if output:
        from mtsearch.report.comparison_page import write_comparison

        click.echo(write_comparison(compared, output), err=True)
    if output_format == "json":
        click.echo(json.dumps(comparison_json(compared), indent=2, allow_nan=False))
    else:
        from rich.console import Console

        Console().print(comparison_table(compared))
        for line in difference_lines(compared):
            click.echo(line)
    if compared.warning:
        click.echo(f"warning: {compared.warning}", err=True)

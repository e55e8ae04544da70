"""The command `mtsearch compare`."""

import json
from pathlib import Path

import click

from mtsearch.cli import options


@click.command()
@click.argument("studies", nargs=-1, metavar="STUDY STUDY...")
@options.storage
@options.table_or_json
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="PLACE",
              help="Also write an HTML page: to this folder, or to this file that ends in .html.")  # fmt: skip
def command(studies: tuple[str, ...], storage: str | None, output_format: str, output: Path | None) -> None:
    """Compare the fronts, hypervolumes, progress and definitions of two or more studies.

    The other studies are compared with the first one.
    """
    if len(set(studies)) < len(studies) or len(studies) < 2:
        raise click.UsageError("name two or more different studies; `mtsearch studies` lists them")
    from mtsearch import api
    from mtsearch.report.comparison import comparison_json, comparison_table, difference_lines

    compared = api.compare(studies, storage)
    if output:
        from mtsearch.report.comparison import write_comparison

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

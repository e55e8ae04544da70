"""The command `mtsearch init`."""

import shlex
from pathlib import Path

import click

from mtsearch.cli import options


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("study.toml"))
@click.option("--data", metavar="PATH", help="A table, folder or zip to search on; it is read first.")
def command(file: Path, data: str | None) -> None:
    """Write a commented study file to start from.  [default: study.toml]

    A file that exists already is not changed.
    """
    options.show_messages()

    from mtsearch import api

    api.init(file, data)
    click.echo(f"wrote {file}; next: mtsearch check {shlex.quote(str(file))}", err=True)

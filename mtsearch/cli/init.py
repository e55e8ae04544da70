"""The command `mtsearch init`."""

import shlex
from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("study.toml"))
def command(file: Path) -> None:
    """Write a commented study file to start from.  [default: study.toml]

    A file that exists already is not changed.
    """
    from mtsearch import api

    api.init(file)
    click.echo(f"wrote {file}; next: mtsearch check {shlex.quote(str(file))}", err=True)

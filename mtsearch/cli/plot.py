"""`mtsearch plot`."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mtsearch.cli import options

if TYPE_CHECKING:
    from mtsearch.search.record import StudyRecord

_LONGEST = 200
"""Bytes of a folder's name: file systems take 255, and a temporary name is longer than the folder's."""


@click.command(cls=options.OfOneStudy)
@options.study
@options.storage
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="PLACE",
              help="A folder, or a file that ends in .html.  [default: dashboards/STUDY]")  # fmt: skip
@click.option("--plotlyjs", type=click.Choice(["inline", "cdn"]), default="inline", show_default=True,
              help="Into the page, which then needs no network, or fetched from Plotly's server.")  # fmt: skip
@click.option("--png", type=click.Path(path_type=Path), metavar="FILE", help="The front as a picture as well.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="The same as SVG.")
@click.option("--format", "output_format", type=click.Choice(["json", "csv"]),
              help="Print what is drawn; the page is then written only where -o names a place.")  # fmt: skip
def command(
    study: str | None,
    storage: str | None,
    output: Path | None,
    plotlyjs: Literal["inline", "cdn"],
    png: Path | None,
    svg: Path | None,
    output_format: str | None,
) -> None:
    """Write one self-contained page: the front, how it came about, and what each parameter did."""
    from mtsearch.cli.output import read_study
    from mtsearch.report.page import write_page
    from mtsearch.search.storage import masked

    record = read_study(study, storage, in_full=True)
    if output or not output_format:
        place = output or Path("dashboards") / folder_name(record.name)
        click.echo(write_page(record, place, storage and masked(storage), plotlyjs), err=bool(output_format))
    for picture in (png, svg):
        if picture:
            from mtsearch.report.picture import write_picture

            click.echo(write_picture(record, picture), err=bool(output_format))
    if output_format:
        _print(record, output_format)


def folder_name(study: str) -> str:
    """A study's name as one folder: what is no letter, digit, dot, dash or underscore becomes a dash.

    Where that or the length changes a name, a part of its SHA-256 keeps it apart from others that become the same.
    """
    name = "".join(char if char.isalnum() or char in "._-" else "-" for char in study).strip(".")
    name = name.encode()[:_LONGEST].decode(errors="ignore")
    return name if name == study else f"{name or 'study'}-{hashlib.sha256(study.encode()).hexdigest()[:8]}"


def _print(record: "StudyRecord", output_format: str) -> None:
    from mtsearch.report.plotted import plotted, plotted_csv

    if output_format == "csv":
        click.echo(plotted_csv(record), nl=False)
    else:
        click.echo(json.dumps(plotted(record), indent=2, allow_nan=False))

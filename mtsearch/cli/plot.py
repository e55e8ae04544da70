"""The command `mtsearch plot`."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mtsearch.cli import options

if TYPE_CHECKING:
    from mtsearch.search.results import StudyResults

_LONGEST = 200
"""Greatest length of a folder's name in bytes: file systems take 255, and a temporary name is longer than the final."""


@click.command(cls=options.OfOneStudy)
@options.study
@options.storage
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="PLACE",
              help="Folder for the page, or a file that ends in .html.  [default: dashboards/STUDY]")  # fmt: skip
@click.option("--plotlyjs", type=click.Choice(["inline", "cdn"]), default="inline", show_default=True,
              help="inline puts plotly.js into the page, which then needs no network; cdn loads it from "
              "Plotly's server.")  # fmt: skip
@click.option(
    "--png", type=click.Path(path_type=Path), metavar="FILE", help="Also write the plot of the front as a PNG picture."
)
@click.option(
    "--svg", type=click.Path(path_type=Path), metavar="FILE", help="Also write the plot of the front as an SVG picture."
)
@click.option("--format", "output_format", type=click.Choice(["json", "csv"]),
              help="Print the plotted data. The page is then written only if -o is given.")  # fmt: skip
def command(
    study: str | None,
    storage: str | None,
    output: Path | None,
    plotlyjs: Literal["inline", "cdn"],
    png: Path | None,
    svg: Path | None,
    output_format: str | None,
) -> None:
    """Write one self-contained HTML page: the front, the progress of the search, and the effect of each parameter."""
    from mtsearch import api
    from mtsearch.cli.console import read_study
    from mtsearch.report.page import write_page

    results = read_study(study, storage, in_full=True)
    if output or not output_format:
        place = output or Path("dashboards") / folder_name(results.name)
        click.echo(write_page(results, place, storage and api.mask_storage(storage), plotlyjs), err=bool(output_format))
    for picture in (png, svg):
        if picture:
            from mtsearch.report.front_plot import write_picture

            click.echo(write_picture(results, picture), err=bool(output_format))
    if output_format:
        _print(results, output_format)


def folder_name(study: str) -> str:
    """Return the name of the folder for a study; characters that are unsafe in a file name become dashes.

    Letters, digits, dots, dashes and underscores stay. If the name changes or is cut, a part of its SHA-256 is added to
    keep it apart from the names of other studies.
    """
    name = "".join(char if char.isalnum() or char in "._-" else "-" for char in study).strip(".")
    name = name.encode()[:_LONGEST].decode(errors="ignore")
    return name if name == study else f"{name or 'study'}-{hashlib.sha256(study.encode()).hexdigest()[:8]}"


def _print(results: "StudyResults", output_format: str) -> None:
    from mtsearch.report.plot_data import plot_csv, plot_json

    if output_format == "csv":
        click.echo(plot_csv(results), nl=False)
    else:
        click.echo(json.dumps(plot_json(results), indent=2, allow_nan=False))

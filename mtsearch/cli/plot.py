"""`mtsearch plot`."""

from pathlib import Path

import click

from mtsearch.cli import options


@click.command()
@options.study
@options.storage
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Folder of the page.  [default: dashboards/STUDY]")  # fmt: skip
def command(study: str | None, storage: str | None, output: Path | None) -> None:
    """Write one self-contained page with the front of a study."""
    from mtsearch.cli.output import read_study
    from mtsearch.report.page import write_page

    record = read_study(study, storage)
    click.echo(write_page(record, output or Path("dashboards") / folder_name(record.name)))


def folder_name(study: str) -> str:
    """A study's name as one folder: what is no letter, digit, dot, dash or underscore becomes a dash."""
    name = "".join(char if char.isalnum() or char in "._-" else "-" for char in study)
    return name.strip(".") or "study"

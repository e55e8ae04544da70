"""Results go to stdout in the form asked for; nothing else does."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from mtsearch.search.record import StudyRecord


def read_study(name: str | None, storage: str | None, in_full: bool = False) -> "StudyRecord":
    """The study of that name, with importances where `in_full`; one that was not named is named on stderr."""
    from mtsearch import api

    record = api.front_in_full(name, storage) if in_full else api.front(name, storage)
    if name is None:
        click.echo(f"study {record.name}", err=True)
    return record


def emit(
    output_format: str,
    table: Callable[[], "Table"],
    rows: Callable[[], Sequence[dict[str, Any]]],
    csv: Callable[[], str],
) -> None:
    """Print one of the three forms."""
    if output_format == "json":
        click.echo(json.dumps(rows(), indent=2, allow_nan=False))
    elif output_format == "csv":
        click.echo(csv(), nl=False)
    else:
        from rich.console import Console

        Console().print(table())


def plain_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of plain values as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()

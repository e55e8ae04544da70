"""The command `mtsearch data`."""

import json
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from mtsearch.cli import options

if TYPE_CHECKING:
    from rich.console import Group

_BAR = 40
"""Characters of the longest bar of the histogram."""


@click.command()
@options.definition
@options.overrides
@options.table_or_json
def command(definition: str | None, overrides: tuple[str, ...], output_format: str) -> None:
    """Show how the ratings of DEFINITION are read, which rows are dropped, and the parts of the split.

    DEFINITION is a study file, the name of a shipped study, or a table, folder or zip of your own.  [default: ml-100k]
    """
    from mtsearch import api

    table = definition if definition and api.is_own_table(definition) else None
    if table:
        overrides = (f"data.source={table}", *overrides)
    loaded = options.load_definition(None if table else definition, overrides)
    options.show_messages()

    description = api.describe_data(loaded)
    if output_format == "json":
        click.echo(json.dumps(description, indent=2, allow_nan=False))
        return
    from rich.console import Console

    Console().print(_make_tables(description))
    if table:
        click.echo(f"next: mtsearch init study.toml --data {shlex.quote(table)}", err=True)


def _make_tables(description: dict[str, Any]) -> "Group":
    """Return the tables of the description of a study's ratings, one below the other."""
    from rich.console import Group
    from rich.text import Text

    ratings, dates = description["ratings"], description["dates"]
    titles = ", with titles" if description["titles"] else ""
    repeated = f"{description['repeated_pairs']:,} rows repeat a pair"
    tables: list[Any] = []
    for title, rows in (
        ("Source", {"source": description["source"], **_read_rows(description["read"])}),
        ("Table", {
            "rows": f"{description['rows']:,}",
            "users": f"{description['users']:,}",
            "items": f"{description['items']:,}; {description['catalogue']:,} in the catalogue{titles}",
            "density": f"{description['density']:.3%} of all pairs; {repeated}",
            "times": f"{dates['first']} to {dates['last']}" if dates else "none",
        }),
        ("Rows as understood", {str(number): _row_text(row) for number, row in enumerate(description["sample"], 1)}),
        (f"Ratings, {ratings['mean']:.4g} on average", dict(_histogram_rows(ratings["histogram"]))),
        (f"Split, {description['method']}", {name: _part_text(part) for name, part in description["split"].items()}),
    ):  # fmt: skip
        tables += [Text(title, style="bold"), _make_table(rows)]
    return Group(*tables)


def _row_text(row: dict[str, Any]) -> str:
    """Return a row as text."""
    return ", ".join(f"{key} {value}" for key, value in row.items() if value is not None)


def _read_rows(read: dict[str, Any]) -> dict[str, str]:
    """Return the lines on how the source was read: its columns, the feedback, and the dropped or changed rows."""
    columns = {f"column for {key}": name for key, name in read["columns"].items()}
    ignored = {"not used": ", ".join(read["ignored"])} if read["ignored"] else {}
    treated = {"treated": "\n".join(f"{count:,} {what}" for what, count in read["treated"].items()) or "nothing"}
    times = {"times in": read["times"]} if read["times"] else {}
    return {**columns, **ignored, **times, "feedback": read["feedback"], "rows in it": f"{read['rows']:,}", **treated}


def _histogram_rows(histogram: list[dict[str, float]]) -> Iterator[tuple[str, str]]:
    """Yield each bin of the ratings with a bar of its rows; the longest has `_BAR` characters."""
    most = max(bar["rows"] for bar in histogram)
    for bar in histogram:
        low, high = f"{bar['low']:.6g}", f"{bar['high']:.6g}"
        yield low if low == high else f"{low} ... {high}", f"{'█' * round(_BAR * bar['rows'] / most)} {bar['rows']:,}"


def _part_text(part: dict[str, int]) -> str:
    """Return the sizes of a part of the split as text; the training part has no cold users or items."""
    rows = f"{part['rows']:,} rows"
    if "cold_users" not in part:
        return rows
    return (
        f"{rows}; cold users {part['cold_users']:,} ({part['rows_of_cold_users']:,} rows), "
        f"cold items {part['cold_items']:,} ({part['rows_of_cold_items']:,} rows), "
        f"{part['rows_outside_catalogue']:,} rows outside the catalogue"
    )


def _make_table(rows: dict[str, str]) -> Any:
    """Return a table of names and values."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mtsearch.text import plain

    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(name), Text(plain(value)))
    return table

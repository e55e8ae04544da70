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

    dates, tasks = description["dates"], description.get("tasks", {})
    # Without a column of ratings, and with tasks that say what a row means, all ratings are 1 and nothing learns them.
    has_ratings = not tasks or "rating" in description["read"]["columns"] or not description["read"]["columns"]
    titles = ", with titles" if description["titles"] else ""
    repeated = f"{description['repeated_pairs']:,} rows repeat a pair"
    tables: list[Any] = []
    for title, rows in (
        ("Source", {"source": description["source"], **_read_rows(description["read"], has_ratings)}),
        ("Table", {
            "rows": f"{description['rows']:,}{_without_rating(description['without_rating'])}",
            "users": f"{description['users']:,}",
            "items": f"{description['items']:,}; {description['catalogue']:,} in the catalogue{titles}",
            "density": f"{description['density']:.3%} of all pairs; {repeated}",
            "times": f"{dates['first']} to {dates['last']}" if dates else "none",
        }),
        ("Rows as understood", dict(_sample_rows(description["sample"], has_ratings))),
        *([_rating_table(description["ratings"])] if has_ratings else []),
        (f"Split, {description['method']}", {name: _part_text(part) for name, part in description["split"].items()}),
        *([("Tasks", {name: _task_text(task) for name, task in tasks.items()})] if tasks else []),
    ):  # fmt: skip
        tables += [Text(title, style="bold"), _make_table(rows)]
    return Group(*tables)


def _without_rating(rows: int) -> str:
    return f", {rows:,} of them without a rating" if rows else ""


def _rating_table(ratings: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the title and the rows of the table of the ratings."""
    return f"Ratings, {ratings['mean']:.4g} on average", dict(_histogram_rows(ratings["histogram"]))


def _task_text(task: dict[str, Any]) -> str:
    """Return the rows of a task as text."""
    rows = ", ".join(f"{task[part]:,} {part}" for part in ("train", "validation", "test"))
    mean = f", {task['mean']:.4g} on average" if "mean" in task else ""
    pairs, of_any = task["validation_pairs_in_train"], task["validation_pairs_in_train_of_any"]
    return (
        f"{task['kind']}: {rows} rows{mean}; of the validation rows {pairs:,} have a pair that it trains on, "
        f"{of_any:,} one that any task trains on"
    )


def _sample_rows(sample: list[dict[str, Any]], has_ratings: bool) -> Iterator[tuple[str, str]]:
    """Yield the number and the text of each row."""
    for number, row in enumerate(sample, 1):
        yield str(number), _row_text(row, has_ratings)


def _row_text(row: dict[str, Any], has_ratings: bool) -> str:
    """Return a row as text, with the target of each task that it serves."""
    hidden = {"tasks"} if has_ratings else {"tasks", "rating"}
    told = ", ".join(f"{key} {value}" for key, value in row.items() if value is not None and key not in hidden)
    served = ", ".join(f"{name} {value:g}" for name, value in row.get("tasks", {}).items())
    return f"{told}; {served}" if served else told


def _read_rows(read: dict[str, Any], has_ratings: bool) -> dict[str, str]:
    """Return the lines on how the source was read: its columns, the feedback, and the dropped or changed rows."""
    columns = {f"column for {key}": name for key, name in read["columns"].items()}
    ignored = {"not used": ", ".join(read["ignored"])} if read["ignored"] else {}
    treated = {"treated": "\n".join(f"{count:,} {what}" for what, count in read["treated"].items()) or "nothing"}
    times = {"times in": read["times"]} if read["times"] else {}
    feedback = {"feedback": read["feedback"]} if has_ratings else {}
    return {**columns, **ignored, **times, **feedback, "rows in it": f"{read['rows']:,}", **treated}


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

"""`mtsearch data`."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from mtsearch.cli import options
from mtsearch.definition import DEFAULT

if TYPE_CHECKING:
    from rich.console import Group

_BAR = 40


@click.command()
@click.argument("definition", default=DEFAULT)
@options.overrides
@options.table_or_json
def command(definition: str, overrides: tuple[str, ...], output_format: str) -> None:
    """Show the ratings of DEFINITION: how they were read, what was dropped, and what the split makes of them."""
    loaded = options.load_definition(definition, overrides)
    options.show_messages()

    from mtsearch import api
    from mtsearch.data.facts import facts_of

    facts = {"source": loaded.data.source, **facts_of(*api.prepare(loaded)), "method": loaded.split.method}
    if output_format == "json":
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
        return
    from rich.console import Console

    Console().print(_tables(facts))


def _tables(facts: dict[str, Any]) -> "Group":
    from rich.console import Group
    from rich.text import Text

    read, ratings, dates = facts["read"], facts["ratings"], facts["dates"]
    tables: list[Any] = []
    for title, rows in (
        ("Source", {"source": facts["source"], **_read(read)}),
        ("Table", {
            "rows": f"{facts['rows']:,}",
            "users": f"{facts['users']:,}",
            "items": f"{facts['items']:,}; {facts['catalogue']:,} in the catalogue{', with titles' * facts['titles']}",
            "density": f"{facts['density']:.3%} of all pairs; {facts['repeated_pairs']:,} rows repeat a pair",
            "times": f"{dates['first']} to {dates['last']}" if dates else "none",
        }),
        (f"Ratings, {ratings['mean']:.4g} on average", dict(_bars(ratings["histogram"]))),
        (f"Split, {facts['method']}", {name: _part(part) for name, part in facts["split"].items()}),
    ):  # fmt: skip
        tables += [Text(title, style="bold"), _table(rows)]
    return Group(*tables)


def _read(read: dict[str, Any]) -> dict[str, str]:
    columns = {f"column for {key}": name for key, name in read["columns"].items()}
    ignored = {"not used": ", ".join(read["ignored"])} if read["ignored"] else {}
    treated = {"treated": "\n".join(f"{count:,} {what}" for what, count in read["treated"].items()) or "nothing"}
    times = {"times in": read["times"]} if read["times"] else {}
    return {**columns, **ignored, **times, "feedback": read["feedback"], "rows in it": f"{read['rows']:,}", **treated}


def _bars(histogram: list[dict[str, float]]) -> Iterator[tuple[str, str]]:
    most = max(bar["rows"] for bar in histogram)
    for bar in histogram:
        low, high = f"{bar['low']:.6g}", f"{bar['high']:.6g}"
        yield low if low == high else f"{low} ... {high}", f"{'█' * round(_BAR * bar['rows'] / most)} {bar['rows']:,}"


def _part(part: dict[str, int]) -> str:
    told = f"{part['rows']:,} rows"
    if "cold_users" not in part:
        return told
    return (
        f"{told}; cold users {part['cold_users']:,} ({part['rows_of_cold_users']:,} rows), "
        f"cold items {part['cold_items']:,} ({part['rows_of_cold_items']:,} rows), "
        f"{part['rows_outside_catalogue']:,} rows outside the catalogue"
    )


def _table(rows: dict[str, str]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mtsearch.report.wording import plain

    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(name), Text(plain(value)))
    return table

"""The command `mtsearch check`."""

import json
from typing import TYPE_CHECKING, Any

import click

from mtsearch.cli import options

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text


@click.command()
@options.definition
@options.overrides
@options.table_or_json
def command(definition: str | None, overrides: tuple[str, ...], output_format: str) -> None:
    """Check DEFINITION and its data, and show the search space, the fixed values, the data and a rough time per trial.

    Runs no trial. DEFINITION is a study file or the name of a shipped study.  [default: ml-100k]
    """
    loaded = options.load_definition(definition, overrides)
    options.show_messages()

    from mtsearch import api

    description = api.check(loaded)
    if output_format == "json":
        click.echo(json.dumps(description, indent=2, allow_nan=False))
        return
    from rich.console import Console

    Console().print(_make_tables(description))


def _make_tables(description: dict[str, Any]) -> "Group":
    """Return the tables of a study's description, one below the other."""
    from rich.console import Group

    names = ("study", "model", "objectives", "sampler", "pruner", "repeats", "constraints")
    study = {name: description[name] for name in names if description.get(name, {}) != {}}
    time = description.get("rough_seconds_of_a_trial")
    start = description["starting_point"]
    space = {
        name: f"{_value_text(parameter)}, from {_value_text(start[name])}"
        for name, parameter in description["space"].items()
    }
    initial = {f"initial trial {number}": trial for number, trial in enumerate(description["listed_trials"], start=1)}
    if space and not description["has_weights_1_1"]:
        initial["weights 1/1"] = "not run: outside the search space"
    return Group(
        *_make_table("Study", study),
        *_make_table("Searched", {**space, **initial}),
        *_make_table("Fixed, other than the default", description["fixed"]),
        *_make_table("Data", {**description["data"], **description["split"]}),
        *_make_table("Time", {"a trial": _time_text(**time) if time else "not known for a custom model"}),
    )


def _make_table(title: str, rows: dict[str, Any]) -> "tuple[Text, Table]":
    """Return a title and a table of names and values; without rows the table says `nothing`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (rows or {"nothing": ""}).items():
        table.add_row(Text(name), Text(_value_text(value)))
    return Text(title, style="bold"), table


def _time_text(cheapest: float, dearest: float) -> str:
    first, last = _duration(cheapest), _duration(dearest)
    span = first if first == last else f"{first} to {last}"
    return f"very roughly {span} on 2 CPU cores, calculated; `run` shows measured times"


def _value_text(value: object) -> str:
    """Return a value of the definition as text: a parameter's choices or range, a table, a list, or one value."""
    if isinstance(value, dict):
        if "choices" in value:
            return " | ".join(map(_value_text, value["choices"]))
        if "low" in value:
            step = f", steps of {_value_text(value['step'])}" if "step" in value else ""
            return (
                f"{_value_text(value['low'])} ... {_value_text(value['high'])}{step}{', log' if value['log'] else ''}"
            )
        return ", ".join(f"{key} = {_value_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"

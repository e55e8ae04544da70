"""`mtsearch check`."""

import json
from typing import TYPE_CHECKING, Any

import click

from mtsearch.cli import options
from mtsearch.definition import DEFAULT

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from mtsearch.data import Interactions, Split
    from mtsearch.definition import StudyDefinition


@click.command()
@click.argument("definition", default=DEFAULT)
@options.overrides
@options.table_or_json
def command(definition: str, overrides: tuple[str, ...], output_format: str) -> None:
    """Read DEFINITION and its data, and show what they make: space, fixed values, data, a rough time. Runs nothing."""
    loaded = options.load_definition(definition, overrides)
    options.show_messages()

    from mtsearch import api
    from mtsearch.study_file.memory import require_memory
    from mtsearch.study_file.sampler import require_packages

    if loaded.space:
        require_packages(loaded.study.sampler)
    interactions, split = api.prepare(loaded)
    require_memory(loaded, len(split.user_ids), len(split.candidates))
    facts = _facts(loaded, interactions, split)
    if output_format == "json":
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
        return
    from rich.console import Console

    Console().print(_tables(facts))


def _facts(definition: "StudyDefinition", interactions: "Interactions", split: "Split") -> dict[str, Any]:
    from mtsearch.study_file.estimate import seconds_of_a_trial
    from mtsearch.study_file.model import find_source
    from mtsearch.study_file.searchable import FIELDS, default_of

    own, resolved = definition.model, definition.resolved()
    space = {name: resolved["space"][name] for name in FIELDS if name in definition.space}
    fixed = {name: definition.fixed[name] for name in FIELDS if name in definition.fixed}
    parts = {"train": split.train, "validation": split.validation, "set_aside": split.set_aside, "test": split.test}
    return {
        "study": definition.study.name,
        **({"model": {"factory": own.factory, "file": str(find_source(own).file)}} if own else {}),
        "objectives": list(definition.study.objectives),
        "sampler": resolved["study"]["sampler"],
        "pruner": resolved["study"]["pruner"],
        "repeats": definition.study.repeats,
        "constraints": resolved.get("constraints", {}),
        "space": space,
        "starting_point": definition.starting_point(),
        "has_weights_1_1": definition.unit_weights() is not None,
        "fixed": {name: value for name, value in fixed.items() if value != default_of(name)},
        "listed_trials": [dict(trial) for trial in definition.trials],
        "data": {
            "source": definition.data.source,
            "rows": len(interactions.rows),
            "users": len(interactions.user_ids),
            "items": len(interactions.item_ids),
            "catalogue": len(split.catalogue),
        },
        "split": {name: len(part) for name, part in parts.items() if part is not None},
        **({} if own else _rough_time(*seconds_of_a_trial(definition, len(split.train), len(split.catalogue)))),
    }


def _rough_time(cheapest: float, dearest: float) -> dict[str, Any]:
    return {"rough_seconds_of_a_trial": {"cheapest": round(cheapest, 1), "dearest": round(dearest, 1)}}


def _tables(facts: dict[str, Any]) -> "Group":
    from rich.console import Group

    names = ("study", "model", "objectives", "sampler", "pruner", "repeats", "constraints")
    study, time = {name: facts[name] for name in names if name in facts}, facts.get("rough_seconds_of_a_trial")
    start = facts["starting_point"]
    space = {name: f"{_shown(parameter)}, from {_shown(start[name])}" for name, parameter in facts["space"].items()}
    listed = {f"listed trial {number}": trial for number, trial in enumerate(facts["listed_trials"], start=1)}
    if space and not facts["has_weights_1_1"]:
        listed["weights 1/1"] = "not run: outside what is searched"
    return Group(
        *_table("Study", {name: value for name, value in study.items() if value != {}}),
        *_table("Searched", {**space, **listed}),
        *_table("Fixed, other than the default", facts["fixed"]),
        *_table("Data", {**facts["data"], **facts["split"]}),
        *_table("Time", {"a trial": _roughly(**time) if time else "not known of a model of your own"}),
    )


def _table(title: str, rows: dict[str, Any]) -> "tuple[Text, Table]":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (rows or {"nothing": ""}).items():
        table.add_row(Text(name), Text(_shown(value)))
    return Text(title, style="bold"), table


def _roughly(cheapest: float, dearest: float) -> str:
    first, last = _duration(cheapest), _duration(dearest)
    span = first if first == last else f"{first} to {last}"
    return f"very roughly {span} on 2 CPU cores, by arithmetic; what `run` shows is measured"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        if "choices" in value:
            return " | ".join(map(_shown, value["choices"]))
        if "low" in value:
            step = f", steps of {_shown(value['step'])}" if "step" in value else ""
            return f"{_shown(value['low'])} ... {_shown(value['high'])}{step}{', log' if value['log'] else ''}"
        return ", ".join(f"{key} = {_shown(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"

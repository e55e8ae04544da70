"""`mtsearch studies`."""

import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from mtsearch.cli import options
from mtsearch.cli.output import emit, plain_csv

if TYPE_CHECKING:
    from rich.table import Table

    from mtsearch.search.record import StudyRecord


@click.group(invoke_without_command=True)
@options.storage
@options.output_format
@click.pass_context
def command(context: click.Context, storage: str | None, output_format: str) -> None:
    """List the studies in a storage; JSON has each one's definition and passport."""
    if context.invoked_subcommand:
        _refuse_before(context, context.invoked_subcommand)
        return
    from mtsearch import api

    records = api.studies(storage)
    brief = [_brief(record) for record in records]
    full = [{**row, **_full(record)} for row, record in zip(brief, records, strict=True)]
    emit(output_format, table=lambda: _table(brief), rows=lambda: full, csv=lambda: plain_csv(brief))


@command.command()
@options.storage
def upgrade(storage: str | None) -> None:
    """Bring a storage that an older version of Optuna wrote up to date."""
    from mtsearch import api
    from mtsearch.search.storage import masked, resolve_url

    api.upgrade(storage)
    click.echo(f"{masked(resolve_url(storage))} is up to date", err=True)


@command.command()
@click.argument("old")
@click.argument("new")
@options.storage
def rename(old: str, new: str, storage: str | None) -> None:
    """Give the study OLD the name NEW; `mtsearch run --study NEW` goes on with it."""
    from mtsearch import api

    options.show_messages()
    api.rename(old, new, storage)
    click.echo(f"study {old} is now {new}", err=True)


@command.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.storage
def delete(name: str, yes: bool, storage: str | None) -> None:
    """Delete the study NAME with all its trials."""
    from mtsearch import api

    options.show_messages()
    trials = api.front(name, storage).counting
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(f"nobody here to ask whether to delete {name} ({trials} trials); say so with --yes")
    if not yes and not click.confirm(f"delete study {name} with its {trials} trials?", err=True):
        click.echo("nothing was deleted", err=True)
        return
    api.delete(name, storage)
    click.echo(f"study {name} is deleted", err=True)


def _refuse_before(context: click.Context, subcommand: str) -> None:
    """Options of the listing before a subcommand, which has its own: a study of another storage would be deleted."""
    for name, option in (("storage", "--storage"), ("output_format", "--format")):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            where = f"write it behind {subcommand}" if name == "storage" else "leave it out"
            raise click.UsageError(f"{option} before {subcommand} has no effect: {where}")


def _brief(record: "StudyRecord") -> dict[str, Any]:
    return {
        "study": record.name,
        "objectives": " ".join(metric.key for metric in record.objectives),
        "trials": record.counting,
        "front": len(record.front),
        "hypervolume": round(record.hypervolume, 6),
        "ended": record.ended.isoformat(sep=" ", timespec="seconds") if record.ended else "",
    }


def _full(record: "StudyRecord") -> dict[str, Any]:
    failures = [{"trial": f.trial, "kind": f.kind, "reason": f.reason, "counted": f.counted} for f in record.failures]
    return {
        "states": dict(record.states),
        "failures": failures,
        "definition": record.definition,
        "listed": [{"trial": trial, "from": label} for trial, label in record.listed.items()],
        "passport": record.passport,
        "runs": list(record.runs),
    }


def _table(rows: list[dict[str, Any]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in rows[0] if rows else ("no studies",):
        table.add_column(name, justify="left" if name in ("study", "objectives", "ended") else "right")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row.values()))
    return table

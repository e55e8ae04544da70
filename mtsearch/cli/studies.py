"""The command `mtsearch studies` and its subcommands `rename`, `delete` and `upgrade`."""

import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from mtsearch.cli import options
from mtsearch.cli.console import emit, plain_csv

if TYPE_CHECKING:
    from rich.table import Table

    from mtsearch.search.results import StudyResults


@click.group(invoke_without_command=True)
@options.storage
@options.output_format
@click.pass_context
def command(context: click.Context, storage: str | None, output_format: str) -> None:
    """List the studies in a storage. `--format json` adds the definition and the provenance of each study.

    The subcommands rename or delete a study, or upgrade the storage.
    """
    if context.invoked_subcommand:
        _refuse_options_before(context, context.invoked_subcommand)
        return
    from mtsearch import api

    all_results = api.studies(storage)
    brief = [_summary_row(results) for results in all_results]
    full = [{**row, **_detail_values(results)} for row, results in zip(brief, all_results, strict=True)]
    emit(output_format, table=lambda: _make_table(brief), rows=lambda: full, csv=lambda: plain_csv(brief))


@command.command()
@options.storage
def upgrade(storage: str | None) -> None:
    """Upgrade a storage that an older version of Optuna wrote."""
    from mtsearch import api

    api.upgrade(storage)
    click.echo(f"{api.storage_name(storage)} is up to date", err=True)


@command.command()
@click.argument("old")
@click.argument("new")
@options.storage
def rename(old: str, new: str, storage: str | None) -> None:
    """Give the study OLD the name NEW.

    `mtsearch run --study NEW` goes on with the study.
    """
    from mtsearch import api

    options.show_messages()
    api.rename(old, new, storage)
    click.echo(f"study {old} is now {new}", err=True)


@command.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@options.storage
def delete(name: str, yes: bool, storage: str | None) -> None:
    """Delete the study NAME with all its trials."""
    from mtsearch import api

    options.show_messages()
    trials = api.load_study(name, storage).counting
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(
            f"cannot ask whether to delete {name} ({trials} trials): no terminal; confirm with --yes"
        )
    if not yes and not click.confirm(f"delete study {name} with its {trials} trials?", err=True):
        click.echo("nothing was deleted", err=True)
        return
    api.delete(name, storage)
    click.echo(f"study {name} is deleted", err=True)


def _refuse_options_before(context: click.Context, subcommand: str) -> None:
    """Refuse options of the listing that are written before a subcommand, which does not see them.

    `mtsearch studies --storage A delete NAME` would delete a study of another storage.
    """
    for name, option in (("storage", "--storage"), ("output_format", "--format")):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            where = f"write it after {subcommand}" if name == "storage" else "leave it out"
            raise click.UsageError(f"{option} before {subcommand} has no effect: {where}")


def _summary_row(results: "StudyResults") -> dict[str, Any]:
    """Return the values of a study that the table and CSV show."""
    return {
        "study": results.name,
        "objectives": " ".join(metric.key for metric in results.objectives),
        "trials": results.counting,
        "front": len(results.front),
        "hypervolume": round(results.hypervolume, 6),
        "ended": results.ended.isoformat(sep=" ", timespec="seconds") if results.ended else "",
    }


def _detail_values(results: "StudyResults") -> dict[str, Any]:
    """Return the further values of a study that only JSON shows."""
    failures = [{"trial": f.trial, "kind": f.kind, "reason": f.reason, "counted": f.counted} for f in results.failures]
    return {
        "states": dict(results.states),
        "failures": failures,
        "definition": results.definition,
        "listed": [{"trial": trial, "from": label} for trial, label in results.initial.items()],
        "passport": results.provenance,
        "runs": list(results.runs),
    }


def _make_table(rows: list[dict[str, Any]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in rows[0] if rows else ("no studies",):
        table.add_column(name, justify="left" if name in ("study", "objectives", "ended") else "right")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row.values()))
    return table

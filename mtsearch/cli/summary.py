"""What stands on the terminal when a run has ended."""

from statistics import median

import click
from rich.console import Console
from rich.table import Table

from mtsearch.cli.outcome import outcome_lines
from mtsearch.definition import StudyDefinition
from mtsearch.report.commands import command
from mtsearch.report.references import verdict
from mtsearch.report.tables import front_table
from mtsearch.search.listed import label
from mtsearch.search.record import StudyRecord
from mtsearch.search.storage import masked


def print_summary(record: StudyRecord, definition: StudyDefinition, place: str, storage: str | None) -> None:
    """The front beside the baselines, where everything is, and what to type next; on stderr.

    Args:
        record: of the study.
        definition: of the study.
        place: of the storage, to be read by people.
        storage: as the user named it; None: not at all.
    """
    console = Console(stderr=True)
    console.print(front_table(record))
    if definition.published:
        console.print(_published(record, definition))
    click.echo(verdict(record), err=True)
    for line in outcome_lines(record):
        click.echo(line, err=True)
    if record.stopped:
        click.echo(f"stopped early: {record.stopped}", err=True)
    click.echo(f"stored in {place}", err=True)
    click.echo(_next(record.name, storage), err=True)


def _next(study: str, storage: str | None) -> str:
    shown = storage and masked(storage)
    return f"next: {command('front', study, shown)} · {command('plot', study, shown)}"


def _published(record: StudyRecord, definition: StudyDefinition) -> Table:
    """Each listed trial: what was measured beside what was published."""
    table = Table(title=f"measured / published ({definition.study.repeats} seeds: median)", title_justify="left")
    table.add_column("trial", justify="right")
    metrics = [metric for metric in record.objectives if metric.key in definition.published[0]]
    for metric in metrics:
        table.add_column(metric.axis, justify="right")
    rows = {record.listed.get(row.trial): row for row in record.rows}
    for number, published in enumerate(definition.published):
        row = rows.get(label(number))
        if row is not None:
            seeds = record.repeats.get(row.trial, [row.metrics])
            cells = [f"{median(seed[m.key] for seed in seeds):.3f} / {published[m.key]:.3f}" for m in metrics]
            table.add_row(str(row.trial), *cells)
    return table

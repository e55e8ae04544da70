"""What stands on the terminal when a run has ended."""

import shlex
from statistics import median

import click
from rich.console import Console
from rich.table import Table

from mtsearch.definition import StudyDefinition
from mtsearch.report.references import verdict
from mtsearch.report.tables import front_table
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
    failed = sum(failure.counted for failure in record.failures)
    click.echo(f"{record.counting} trials ({failed} failed), hypervolume {record.hypervolume:.4f}", err=True)
    click.echo(f"stored in {place}", err=True)
    click.echo(_next(record.name, storage), err=True)


def _next(study: str, storage: str | None) -> str:
    options = f"--study {shlex.quote(study)}"
    if storage is not None:
        options += f" --storage {shlex.quote(masked(storage))}"
    return f"next: mtsearch front {options} · mtsearch plot {options}"


def _published(record: StudyRecord, definition: StudyDefinition) -> Table:
    """Each listed trial: what was measured beside what was published."""
    table = Table(title=f"measured / published ({definition.study.repeats} seeds: median)", title_justify="left")
    table.add_column("trial", justify="right")
    metrics = [metric for metric in record.objectives if metric.key in definition.published[0]]
    for metric in metrics:
        table.add_column(metric.axis, justify="right")
    rows = {row.trial: row for row in record.rows}
    for number, published in enumerate(definition.published):
        if number in rows:
            seeds = record.repeats.get(number, [rows[number].metrics])
            cells = [f"{median(seed[m.key] for seed in seeds):.3f} / {published[m.key]:.3f}" for m in metrics]
            table.add_row(str(number), *cells)
    return table

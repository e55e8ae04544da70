"""The command `mtsearch baselines`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mtsearch.cli import options
from mtsearch.cli.console import emit, plain_csv, say
from mtsearch.errors import StudyMismatch, StudyNotFound
from mtsearch.text import quote, shell_command

if TYPE_CHECKING:
    from mtsearch.study_file.definition import StudyDefinition


@click.command()
@options.definition
@click.option("--strong", is_flag=True,
              help="Also train implicit ALS and a Bayesian factorization machine, and store their metrics with the "
              "study. Needs pip install 'mtsearch[reference]'.")  # fmt: skip
@click.option("--study", "name", metavar="NAME", help="Name of the study.  [default: the name in the definition]")
@options.overrides
@options.storage
@options.output_format
def command(
    definition: str | None,
    strong: bool,
    name: str | None,
    overrides: tuple[str, ...],
    storage: str | None,
    output_format: str,
) -> None:
    """Show the metrics of chance, popularity and biases on the validation rows of DEFINITION.

    These baselines need no search. DEFINITION is a study file or the name of a shipped study.  [default: ml-100k]
    `--study NAME` without DEFINITION takes the definition of a stored study.

    The strong baselines know one kind of task each: `ials` ranks, `bayesian_fm` predicts ratings. If the storage has
    the study, with the same data and split, its front, plot and page show them from then on.
    """
    loaded = _load(definition, name, storage, overrides)
    options.show_messages()

    from mtsearch import api
    from mtsearch.cli.console import BaselineProgress
    from mtsearch.report.tables import baseline_table

    prepared = api.prepare(loaded)
    with BaselineProgress() as progress:
        baselines = api.baselines(loaded, prepared, strong=strong, on_share=progress.move)
    metrics = loaded.metrics_of(prepared[0].report.feedback)
    rows = [{"baseline": name, **metrics} for name, metrics in baselines.items()]
    emit(
        output_format,
        table=lambda: baseline_table(baselines, loaded.study.objectives, metrics),
        rows=lambda: rows,
        csv=lambda: plain_csv(rows),
    )
    if strong:
        try:
            api.add_baselines(baselines, loaded, prepared, storage)
        except (StudyNotFound, StudyMismatch) as error:
            say(f"not stored: {error}")
        else:
            seen = shell_command("front", loaded.study.name, storage and api.mask_storage(storage))
            say(f"stored with study {loaded.study.name}; to see them on its front: {seen}")


def _load(definition: str | None, name: str | None, storage: str | None, overrides: tuple[str, ...]) -> StudyDefinition:
    """Read the definition, or that of the stored study if only the study is named."""
    if definition is not None or name is None:
        return options.load_definition(definition, overrides, {"name": name})
    stored = options.stored_definition(name, storage, overrides, {})
    if stored is None:
        raise StudyNotFound(f"no study {quote(name)} in the storage", "name a DEFINITION, or see `mtsearch studies`")
    return stored

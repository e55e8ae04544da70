"""The command `mtsearch baselines`."""

import click

from mtsearch.cli import options
from mtsearch.cli.console import emit, plain_csv


@click.command()
@options.definition
@options.overrides
@options.output_format
def command(definition: str | None, overrides: tuple[str, ...], output_format: str) -> None:
    """Show the metrics of chance, popularity and biases on the validation rows of DEFINITION.

    These baselines need no search. DEFINITION is a study file or the name of a shipped study.  [default: ml-100k]
    """
    loaded = options.load_definition(definition, overrides)
    options.show_messages()

    from mtsearch import api
    from mtsearch.report.tables import baseline_table

    prepared = api.prepare(loaded)
    baselines = api.baselines(loaded, prepared)
    metrics = loaded.metrics_of(prepared[0].report.feedback)
    rows = [{"baseline": name, **metrics} for name, metrics in baselines.items()]
    emit(
        output_format,
        table=lambda: baseline_table(baselines, loaded.study.objectives, metrics),
        rows=lambda: rows,
        csv=lambda: plain_csv(rows),
    )

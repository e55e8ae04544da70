"""`mtsearch baselines`."""

import click

from mtsearch.cli import options
from mtsearch.cli.output import emit, plain_csv
from mtsearch.definition import DEFAULT
from mtsearch.objectives import METRICS


@click.command()
@click.argument("definition", default=DEFAULT)
@options.overrides
@options.output_format
def command(definition: str, overrides: tuple[str, ...], output_format: str) -> None:
    """Show what needs no search on the validation rows of DEFINITION: chance, popularity and biases."""
    loaded = options.load_definition(definition, overrides)
    options.show_messages()

    from mtsearch import api
    from mtsearch.report.tables import baseline_table

    objectives = METRICS[loaded.study.objectives[0]], METRICS[loaded.study.objectives[1]]
    baselines = api.baselines(loaded)
    rows = [{"baseline": name, **metrics} for name, metrics in baselines.items()]
    emit(
        output_format,
        table=lambda: baseline_table(baselines, objectives),
        rows=lambda: rows,
        csv=lambda: plain_csv(rows),
    )

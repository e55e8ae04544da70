"""`mtsearch baselines`."""

import click

from mtsearch.cli import options
from mtsearch.cli.output import emit, plain_csv
from mtsearch.definition import DEFAULT
from mtsearch.objectives import metrics_of


@click.command()
@click.argument("definition", default=DEFAULT)
@options.overrides
@options.output_format
def command(definition: str, overrides: tuple[str, ...], output_format: str) -> None:
    """Show what needs no search on the validation rows of DEFINITION: chance, popularity and biases."""
    loaded = options.load_definition(definition, overrides)
    options.show_messages()

    from mtsearch import api, evaluation
    from mtsearch.report.tables import baseline_table

    interactions, split = api.prepare(loaded)
    baselines = evaluation.baselines(split, split.validation)
    metrics = metrics_of(interactions.reading.feedback)
    rows = [{"baseline": name, **metrics} for name, metrics in baselines.items()]
    emit(
        output_format,
        table=lambda: baseline_table(baselines, loaded.study.objectives, metrics),
        rows=lambda: rows,
        csv=lambda: plain_csv(rows),
    )

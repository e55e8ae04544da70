"""`mtsearch export`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtsearch.cli import options

if TYPE_CHECKING:
    from mtsearch.search.choosing import Choice
    from mtsearch.search.front import FrontRow
    from mtsearch.search.record import StudyRecord

MOST_DOMINATING = 3
"""Of the trials that dominate a chosen one, so many are compared with it; the others are named."""


@click.command()
@options.study
@options.storage
@click.option("--pick", default="knee", show_default=True, metavar="PICK",
              help='knee; an objective, for its best; trial:N; or a rule, "rmse<=0.93" or "top_100>=0.38": the best of '
              "the other objective among those that meet it, or of several others their knee.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: stdout]")
def command(study: str | None, storage: str | None, pick: str, output: Path | None) -> None:
    """Choose a trial of a study and write its configuration as TOML; says on stderr why this one."""
    from mtsearch.cli.output import read_study
    from mtsearch.search.choosing import choose
    from mtsearch.search.exporting import export_of

    record = read_study(study, storage)
    choice = choose(record, pick)
    export = export_of(record, choice)
    place = export.save(output) if output else None
    for line in reasons(record, choice):
        click.echo(line, err=True)
    if place:
        click.echo(f"written to {place}", err=True)
    else:
        click.echo(export.to_toml(), nl=False)


def reasons(record: "StudyRecord", choice: "Choice") -> Iterator[str]:
    """What was chosen and why, what its neighbours give and cost, and how it stands to the baselines; a line each."""
    yield f"trial {choice.row.trial}: {_values(record, choice.row)}"
    yield _why(record, choice)
    yield from _surroundings(record, choice)
    for name in record.baselines:
        yield _against(record, choice.row, name)
    if record.definition.get("split", {}).get("validation") == "test":
        yield "note: this study validates on its test rows, so that whatever is chosen here is chosen on them"


def _values(record: "StudyRecord", row: "FrontRow") -> str:
    from mtsearch.report.wording import amount

    spread = record.spread(row.trial)
    texts = [
        f"{metric.label} {amount(value, metric)}" + (f" (± {amount(spread[index], metric)})" if spread else "")
        for index, (metric, value) in enumerate(zip(record.objectives, row.values, strict=True))
    ]
    return ", ".join(texts) + (f"; ± one {record.spread_of}" if spread else "")


def _why(record: "StudyRecord", choice: "Choice") -> str:
    from mtsearch.report.wording import count

    if len(record.objectives) == 1:
        return _why_best(choice)
    points = count(len(record.front), "trial")
    if choice.dominated_by:
        return f"as named; not among the {points} of the front"
    if choice.pick.kind == "trial":
        return f"as named; one of the {points} of the front"
    if len(record.front) == 1:
        return "the only trial of the front"
    labels = [metric.label for metric in record.objectives]
    named = labels.pop(choice.pick.index)
    every = "both" if len(record.objectives) == 2 else "all"
    return {
        "knee": f"the knee: of the {points} of the front the one that gives up least of {every} objectives",
        "best": f"the best {named} of the {points} of the front",
        "rule": f"the {f'best {labels[0]}' if len(labels) == 1 else 'knee'} of the front's trials with {choice.asked}",
    }[choice.pick.kind]


def _why_best(choice: "Choice") -> str:
    """Say why a trial was chosen in a study of one objective, whose front is the best trial."""
    if choice.dominated_by:
        return "as named; not the best trial"
    if choice.pick.kind == "rule":
        return f"the best trial, with {choice.asked}"
    return "as named; the best trial" if choice.pick.kind == "trial" else "the best trial"


def _surroundings(record: "StudyRecord", choice: "Choice") -> Iterator[str]:
    from mtsearch.report.wording import listing

    several = len(record.objectives) > 1
    for other in choice.dominated_by[:MOST_DOMINATING]:
        dominated_by = "dominated by" if several else "to the best,"
        yield f"{dominated_by} trial {other.trial}: {_step(record, choice.row, other, 0)}"
    if further := choice.dominated_by[MOST_DOMINATING:]:
        others = listing([f"trial {other.trial}" for other in further])
        yield f"dominated by {others} as well" if several else f"as good as the best: {others}"
    if several and not choice.dominated_by:
        yield from _neighbours(record, choice)
    if choice.equals:
        yield f"the same values: {listing([f'trial {other.trial}' for other in choice.equals])}"


def _neighbours(record: "StudyRecord", choice: "Choice") -> Iterator[str]:
    """Compare with the next better trial of the front in each objective; one that is next in several comes once."""
    said = set()
    for index, neighbour in enumerate(choice.neighbours):
        if neighbour is None:
            yield f"no trial of the front is better in {record.objectives[index].label}"
        elif neighbour.trial not in said:
            said.add(neighbour.trial)
            yield f"to trial {neighbour.trial}: {_step(record, choice.row, neighbour, index)}"


def _step(record: "StudyRecord", row: "FrontRow", other: "FrontRow", first: int) -> str:
    """What changes on the way to another trial, the objective `first` first."""
    order = [first, *(index for index in range(len(record.objectives)) if index != first)]
    return ", ".join(_change(record, row, other, index) for index in order)


def _change(record: "StudyRecord", row: "FrontRow", other: "FrontRow", index: int) -> str:
    from mtsearch.report.wording import amount

    metric = record.objectives[index]
    gain = metric.sign * (row.values[index] - other.values[index])
    if gain == 0:
        return f"{metric.label} the same"
    return f"{metric.label} {amount(abs(gain), metric)} {'better' if gain > 0 else 'worse'}"


def _against(record: "StudyRecord", row: "FrontRow", name: str) -> str:
    from mtsearch.report.wording import amount, listing, plain

    values = record.baseline_values(name)
    beaten: list[str] = []
    unbeaten: list[str] = []
    for metric, value, reference in zip(record.objectives, row.values, values, strict=True):
        better = metric.sign * value < metric.sign * reference
        (beaten if better else unbeaten).append(f"{metric.label} ({amount(reference, metric)})")
    if not unbeaten:
        return f"beats {plain(name)} in {listing(beaten)}"
    if not beaten:
        return f"does not beat {plain(name)} in {listing(unbeaten, 'or')}"
    return f"beats {plain(name)} in {listing(beaten)}, not in {listing(unbeaten, 'or')}"

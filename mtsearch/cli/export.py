"""The command `mtsearch export`."""

from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtsearch.cli import options

if TYPE_CHECKING:
    from mtsearch.search.pareto import FrontRow
    from mtsearch.search.results import StudyResults
    from mtsearch.search.selection import Selection

MOST_DOMINATING = 3
"""Number of dominating trials that are compared with the selected one; further ones are only named."""


@click.command()
@options.study
@options.storage
@click.option("--pick", default="knee", show_default=True, metavar="PICK",
              help="Trial to select: knee is the knee of the front; an objective, such as rmse, is the best trial in "
              'it; trial:N is trial N. A limit, such as "rmse<=0.93" or "top_100>=0.38", takes, of the trials of the '
              "front within it, the best in the other objective, or the knee if there are several others.")  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="File to write.  [default: stdout]"
)
def command(study: str | None, storage: str | None, pick: str, output: Path | None) -> None:
    """Select a trial of a study and write its configuration as TOML.

    The reason for the selection is written to stderr. `mtsearch retrain` trains the configuration.
    """
    from mtsearch import api
    from mtsearch.cli.console import read_study

    results = read_study(study, storage)
    choice = api.select(results, pick)
    export = api.export(results, pick=pick)
    place = export.save(output) if output else None
    for line in selection_lines(results, choice):
        click.echo(line, err=True)
    if place:
        click.echo(f"written to {place}", err=True)
    else:
        click.echo(export.to_toml(), nl=False)


def selection_lines(results: "StudyResults", choice: "Selection") -> Iterator[str]:
    """Yield the lines on a selected trial: its values, the reason, its neighbours on the front, and the baselines."""
    yield f"trial {choice.row.trial}: {_values_text(results, choice.row)}"
    yield _reason_text(results, choice)
    yield from _comparison_lines(results, choice)
    for name in results.baselines:
        yield _baseline_line(results, choice.row, name)
    if results.definition.get("split", {}).get("validation") == "test":
        yield "note: this study validates on its test rows, so the selection here is made on the test rows"


def _values_text(results: "StudyResults", row: "FrontRow") -> str:
    """Return the objectives of a trial as text, each with its spread if the trial was repeated."""
    from mtsearch.text import amount

    spread = results.spread(row.trial)
    texts = [
        f"{metric.label} {amount(value, metric)}" + (f" (± {amount(spread[index], metric)})" if spread else "")
        for index, (metric, value) in enumerate(zip(results.objectives, row.values, strict=True))
    ]
    return ", ".join(texts) + (f"; ± one {results.spread_of}" if spread else "")


def _reason_text(results: "StudyResults", choice: "Selection") -> str:
    """Return the reason for the selection, with the number of trials on the front."""
    from mtsearch.text import count

    if len(results.objectives) == 1:
        return _reason_single_objective(choice)
    points = count(len(results.front), "trial")
    if choice.dominated_by:
        return f"as named; not among the {points} of the front"
    if choice.pick.kind == "trial":
        return f"as named; one of the {points} of the front"
    if len(results.front) == 1:
        return "the only trial of the front"
    labels = [metric.label for metric in results.objectives]
    # `labels` keeps the objectives other than the one that the pick names.
    named = labels.pop(choice.pick.index)
    every = "both" if len(results.objectives) == 2 else "all"
    return {
        "knee": f"the knee: of the {points} of the front the best compromise between {every} objectives",
        "best": f"the best {named} of the {points} of the front",
        "rule": f"the {f'best {labels[0]}' if len(labels) == 1 else 'knee'} of the front's trials with {choice.asked}",
    }[choice.pick.kind]


def _reason_single_objective(choice: "Selection") -> str:
    """Return the reason for the selection in a study of one objective, whose front is its best trial."""
    if choice.dominated_by:
        return "as named; not the best trial"
    if choice.pick.kind == "rule":
        return f"the best trial, with {choice.asked}"
    return "as named; the best trial" if choice.pick.kind == "trial" else "the best trial"


def _comparison_lines(results: "StudyResults", choice: "Selection") -> Iterator[str]:
    """Yield a line for each dominating trial, neighbour on the front, and trial of equal values."""
    from mtsearch.text import listing

    several = len(results.objectives) > 1
    for other in choice.dominated_by[:MOST_DOMINATING]:
        dominated_by = "dominated by" if several else "to the best,"
        yield f"{dominated_by} trial {other.trial}: {_changes_text(results, choice.row, other, 0)}"
    if further := choice.dominated_by[MOST_DOMINATING:]:
        others = listing([f"trial {other.trial}" for other in further])
        yield f"dominated by {others} as well" if several else f"as good as the best: {others}"
    if several and not choice.dominated_by:
        yield from _neighbour_lines(results, choice)
    if choice.equals:
        yield f"the same values: {listing([f'trial {other.trial}' for other in choice.equals])}"


def _neighbour_lines(results: "StudyResults", choice: "Selection") -> Iterator[str]:
    """Yield, per objective, a line on the next better trial of the front; no trial has two lines."""
    named = set()
    for index, neighbour in enumerate(choice.neighbours):
        if neighbour is None:
            yield f"no trial of the front is better in {results.objectives[index].label}"
        elif neighbour.trial not in named:
            named.add(neighbour.trial)
            yield f"to trial {neighbour.trial}: {_changes_text(results, choice.row, neighbour, index)}"


def _changes_text(results: "StudyResults", row: "FrontRow", other: "FrontRow", first: int) -> str:
    """Return the changes of the objectives from one trial to another as text, beginning with objective `first`."""
    order = [first, *(index for index in range(len(results.objectives)) if index != first)]
    return ", ".join(_change_text(results, row, other, index) for index in order)


def _change_text(results: "StudyResults", row: "FrontRow", other: "FrontRow", index: int) -> str:
    """Return the change of one objective from `row` to `other` as text, such as `RMSE 0.01 better`."""
    from mtsearch.text import amount

    metric = results.objectives[index]
    gain = metric.sign * (row.values[index] - other.values[index])
    if gain == 0:
        return f"{metric.label} the same"
    return f"{metric.label} {amount(abs(gain), metric)} {'better' if gain > 0 else 'worse'}"


def _baseline_line(results: "StudyResults", row: "FrontRow", name: str) -> str:
    """Return a sentence on the objectives in which a trial beats a baseline, and those in which it does not."""
    from mtsearch.text import amount, listing, plain

    values = results.baseline_values(name)
    beaten: list[str] = []
    unbeaten: list[str] = []
    for metric, value, reference in zip(results.objectives, row.values, values, strict=True):
        if isnan(reference):  # the baseline is none of this objective's task
            continue
        better = metric.sign * value < metric.sign * reference
        (beaten if better else unbeaten).append(f"{metric.label} ({amount(reference, metric)})")
    if not unbeaten:
        return f"beats {plain(name)} in {listing(beaten)}"
    if not beaten:
        return f"does not beat {plain(name)} in {listing(unbeaten, 'or')}"
    return f"beats {plain(name)} in {listing(beaten)}, not in {listing(unbeaten, 'or')}"

"""Studies side by side on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from mtsearch.report.comparison import Comparison, difference_rows
from mtsearch.report.tables import as_text, bare_table, fixed, heading
from mtsearch.report.wording import number, plain, shortened

_SHOWN = 100  # characters of a value that differs


def comparison_table(compared: Comparison) -> Table:
    """A column per study, a line per number."""
    table = bare_table("Studies side by side")
    table.add_column("")
    for name in compared.names:
        table.add_column(as_text(name), justify="right", overflow="fold")
    for title, cells in comparison_lines(compared):
        table.add_row(as_text(title), *map(as_text, cells))
    return table


def comparison_lines(compared: Comparison) -> Iterator[tuple[str, list[str]]]:
    """What each line is and its cell for each study."""
    studies, several = compared.studies, len(compared.objectives) > 1
    yield "trials", [f"{each.record.counting:,}" for each in studies]
    if several:
        yield "on the front", [str(len(each.record.front)) for each in studies]
    # In three dimensions and more a share of a box is small.
    shown = fixed if len(compared.objectives) <= 2 else number
    yield "hypervolume\u00a0↑", [shown(each.record.hypervolume) for each in studies]
    for index, metric in enumerate(compared.objectives):
        yield (
            f"best {heading(metric)}",
            [fixed(each.best[index].values[index]) if each.best else "" for each in studies],
        )
    # With one objective its best value says it all.
    for other, name in enumerate(compared.names if several else ()):
        counted = [compared.dominated(index, other) if index != other else None for index in range(len(studies))]
        yield f"dominated by {name}", [_of_front(amount) for amount in counted]
    minutes = [
        max((step.minutes for step in each.progress if step.minutes is not None), default=None) for each in studies
    ]
    yield "minutes of trials", ["" if each is None else f"{each:.1f}" for each in minutes]


def difference_lines(compared: Comparison) -> Iterator[str]:
    """What differs from the first study, a line each."""
    for name, what, line in difference_rows(compared):
        yield f"{plain(name)}, {what}: {shortened(plain(line), _SHOWN)}"


def _of_front(amount: int | None) -> str:
    return "" if amount is None else str(amount)

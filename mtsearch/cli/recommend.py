"""The command `mtsearch recommend`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mtsearch.cli import options
from mtsearch.cli.console import emit, plain_csv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--user", metavar="ID", help="Id of the user.")
@click.option("--users", metavar="FILE", type=click.Path(path_type=Path),
              help="CSV, TSV or Parquet file with a user per row. The ids are in the column user, else in a column "
              "with a usual name for it, else in the first column.")  # fmt: skip
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Number of items per user.")
@click.option("--include-seen", is_flag=True, help="Also recommend items that the user has rated.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path),
              help="File for the recommendations of --users: .csv, .parquet or .jsonl.")  # fmt: skip
@options.output_format
def command(
    folder: Path, user: str | None, users: Path | None, k: int, include_seen: bool, output: Path | None,
    output_format: str,
) -> None:  # fmt: skip
    """Recommend items to a user, or to each user of a file, with the model in DIR.

    DIR is a model folder that `mtsearch retrain` wrote.
    """
    if (user is None) == (users is None):
        raise click.UsageError("give either --user or --users")
    if (users is None) != (output is None):
        raise click.UsageError("--users and -o must be given together")
    if users is not None and output is not None:
        _recommend_file(folder, users, k, not include_seen, output)
    elif user is not None:
        _recommend_one(folder, user, k, not include_seen, output_format)


def _recommend_one(folder: Path, user: str, k: int, exclude_seen: bool, output_format: str) -> None:
    from mtsearch import api
    from mtsearch.cli.console import note_unknown

    found = api.recommend(folder, [user], k, exclude_seen)
    if not found.known[0]:
        note_unknown("user", user, "the items for the average user are shown instead")
    rows = [
        {"rank": rank, "item": best.item, "title": best.title, "rating": best.rating, "score": best.score}
        for rank, best in enumerate(found.of(0), 1)
    ]
    if len(rows) < k:
        click.echo(f"only {len(rows)} items are left that the user has not rated; --include-seen shows more", err=True)
    emit(output_format, table=lambda: _make_table(rows), rows=lambda: rows, csv=lambda: plain_csv(rows))


def _make_table(rows: "Sequence[dict[str, Any]]") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mtsearch.text import plain

    # In MovieLens the id of an item is its title. In other data `predict` needs the id, so both are shown.
    names = ["title"] if all(row["item"] == row["title"] for row in rows) else ["item", "title"]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("#", justify="right")
    for name in names:
        table.add_column(name)
    table.add_column("rating", justify="right")
    table.add_column("score", justify="right")
    for row in rows:
        named = (Text(plain(row[name])) for name in names)
        table.add_row(str(row["rank"]), *named, f"{row['rating']:.2f}", f"{row['score']:.3f}")
    return table


def _recommend_file(folder: Path, users: Path, k: int, exclude_seen: bool, output: Path) -> None:
    from mtsearch import api
    from mtsearch.cli.console import note_done

    done = api.recommend_file(folder, users, output, k, exclude_seen)
    note_done(done, users, output, "user")

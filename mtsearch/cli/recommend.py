"""The command `mtsearch recommend`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mtsearch.cli import options
from mtsearch.cli.console import emit, plain_csv

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--user", metavar="ID", help="Id of the user.")
@click.option("--users", metavar="FILE", type=click.Path(path_type=Path),
              help="CSV, TSV or Parquet file with a user per row. The ids are in the column user, else in a column "
              "with a usual name for it, else in the first column.")  # fmt: skip
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Number of items per user.")
@click.option("--task", "tasks", metavar="TASK", multiple=True,
              help="Task of retrieval to rank by, several times for a list by each. By default the study's first "
              "objective of retrieval.")  # fmt: skip
@click.option("--include-seen", is_flag=True, help="Also recommend items that the user has had in the data.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path),
              help="File for the recommendations of --users: .csv, .parquet or .jsonl.")  # fmt: skip
@options.output_format
def command(
    folder: Path, user: str | None, users: Path | None, k: int, tasks: tuple[str, ...], include_seen: bool,
    output: Path | None, output_format: str,
) -> None:  # fmt: skip
    """Recommend items to a user, or to each user of a file, with the model in DIR.

    DIR is a model folder that `mtsearch retrain` wrote.
    """
    if (user is None) == (users is None):
        raise click.UsageError("give either --user or --users")
    if (users is None) != (output is None):
        raise click.UsageError("--users and -o must be given together")
    if users is not None and output is not None:
        _recommend_file(folder, users, k, not include_seen, tasks, output)
    elif user is not None:
        _recommend_one(folder, user, k, not include_seen, tasks, output_format)


def _recommend_one(
    folder: Path, user: str, k: int, exclude_seen: bool, tasks: "Sequence[str]", output_format: str
) -> None:
    from mtsearch import api
    from mtsearch.cli.console import note_unknown

    model = api.load_model(folder)
    asked = model.info.find_rankings(tasks)
    lists = {task: model.recommend([user], k, exclude_seen, task) for task in asked}
    if not lists[asked[0]].known[0]:
        note_unknown("user", user, "the items for the average user are shown instead")
    rows: list[dict[str, Any]] = []
    for task, found in lists.items():
        named = {"task": task} if len(asked) > 1 else {}
        best = found.of(0)
        rows += (
            {**named, "rank": rank, "item": one.item, "title": one.title, **one.predictions, "score": one.score}
            for rank, one in enumerate(best, 1)
        )
        if len(best) < k:
            of_task = f"{task}: " if named else ""
            left = f"{of_task}only {len(best)} items are left that the user has not seen"
            click.echo(f"{left}; --include-seen shows more", err=True)
    heads = {name: model.info.tasks[name] for name in model.info.heads}
    emit(output_format, table=lambda: _make_table(rows, heads), rows=lambda: rows, csv=lambda: plain_csv(rows))


def _make_table(rows: "Sequence[dict[str, Any]]", heads: "Mapping[str, str]") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mtsearch.text import plain

    # In MovieLens the id of an item is its title. In other data `predict` needs the id, so both are shown.
    names = ["title"] if all(row["item"] == row["title"] for row in rows) else ["item", "title"]
    if any("task" in row for row in rows):
        names.insert(0, "task")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("#", justify="right")
    for name in names:
        table.add_column(name)
    formats = {head: ".2f" if kind == "rating" else ".3f" for head, kind in heads.items()} | {"score": ".3f"}
    for name in formats:
        table.add_column(name, justify="right")
    for row in rows:
        named = (Text(plain(row[name])) for name in names)
        table.add_row(str(row["rank"]), *named, *(format(row[name], digits) for name, digits in formats.items()))
    return table


def _recommend_file(
    folder: Path, users: Path, k: int, exclude_seen: bool, tasks: "Sequence[str]", output: Path
) -> None:
    from mtsearch import api
    from mtsearch.cli.console import note_done

    done = api.recommend_file(folder, users, output, k, exclude_seen, tasks)
    note_done(done, users, output, "user")

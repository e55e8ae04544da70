"""The command `mtsearch predict`."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--user", metavar="ID", help="Id of the user.")
@click.option("--item", metavar="ID", help="Id of the item; in MovieLens its title.")
@click.option("--pairs", metavar="FILE", type=click.Path(path_type=Path),
              help="CSV, TSV or Parquet file with a pair per row. The ids are in the columns user and item, else in "
              "columns with usual names for them, else in the first two columns.")  # fmt: skip
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path),
              help="File for the predictions of --pairs: .csv, .parquet or .jsonl.")  # fmt: skip
def command(folder: Path, user: str | None, item: str | None, pairs: Path | None, output: Path | None) -> None:
    """Predict the rating that a user would give an item, or the ratings of a file of pairs, with the model in DIR.

    DIR is a model folder that `mtsearch retrain` wrote. The rating of one pair is printed as a number alone. Where the
    study has several tasks of ratings and labels, each has a line with its name, or a column of the file; of a label
    the chance of a yes is given.
    """
    one, many = (user is not None, item is not None), (pairs is not None, output is not None)
    if not ((all(one) and not any(many)) or (all(many) and not any(one))):
        raise click.UsageError("give either --user and --item, or --pairs and -o")
    if pairs is not None and output is not None:
        _predict_file(folder, pairs, output)
    elif user is not None and item is not None:
        _predict_one(folder, user, item)


def _predict_one(folder: Path, user: str, item: str) -> None:
    from mtsearch import api
    from mtsearch.cli.console import note_unknown

    found = api.predict(folder, [user], [item])
    for what, id_, known in (("user", user, found.known_users[0]), ("item", item, found.known_items[0])):
        if not known:
            note_unknown(what, id_, f"the average {what} is used instead")
    width = max(map(len, found.of_tasks))
    for task, values in found.of_tasks.items():
        click.echo(f"{task:<{width}}  {values[0]:.3f}" if len(found.of_tasks) > 1 else f"{values[0]:.3f}")


def _predict_file(folder: Path, pairs: Path, output: Path) -> None:
    from mtsearch import api
    from mtsearch.cli.console import note_done

    note_done(api.predict_file(folder, pairs, output), pairs, output, "pair")

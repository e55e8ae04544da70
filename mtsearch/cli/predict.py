"""`mtsearch predict`."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--user", metavar="ID", help="The user.")
@click.option("--item", metavar="ID", help="The item; for MovieLens its title.")
@click.option("--pairs", metavar="FILE", type=click.Path(path_type=Path),
              help="CSV, TSV or Parquet; columns user and item, else of usual names, else the first two.")  # fmt: skip
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path),
              help="Where --pairs goes: a .csv, .parquet or .jsonl file.")  # fmt: skip
def command(folder: Path, user: str | None, item: str | None, pairs: Path | None, output: Path | None) -> None:
    """Predict the rating that a user would give an item, or each pair of a file, with the model in DIR.

    The rating of one pair goes to stdout, a number and nothing else.
    """
    one, many = (user is not None, item is not None), (pairs is not None, output is not None)
    if not ((all(one) and not any(many)) or (all(many) and not any(one))):
        raise click.UsageError("give either --user and --item, or --pairs and -o")
    if pairs is not None and output is not None:
        _in_bulk(folder, pairs, output)
    elif user is not None and item is not None:
        _for_one(folder, user, item)


def _for_one(folder: Path, user: str, item: str) -> None:
    from mtsearch.cli.answers import note_unknown
    from mtsearch.serving import ServedModel

    found = ServedModel.load(folder).predict([user], [item])
    for what, id_, known in (("user", user, found.known_users[0]), ("item", item, found.known_items[0])):
        if not known:
            note_unknown(what, id_, f"the average {what} stands for it")
    click.echo(f"{found.ratings[0]:.3f}")


def _in_bulk(folder: Path, pairs: Path, output: Path) -> None:
    from mtsearch.cli.answers import note_done
    from mtsearch.serving import ServedModel
    from mtsearch.serving.bulk import predict_file

    note_done(predict_file(lambda: ServedModel.load(folder), pairs, output), pairs, output, "pair")

"""What is said on stderr beside a model's answers."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mtsearch.serving.bulk import Done


def note_unknown(what: str, id_: str, instead: str) -> None:
    """Say that the model was not trained on a user or an item, and what is answered instead."""
    from mtsearch.serving.requests import shown

    click.echo(f"the model was not trained on {what} {shown(id_)}; {instead}", err=True)


def note_done(done: "Done", source: Path, output: Path, noun: str) -> None:
    """Say what became of a file, and what was taken for its ids where its header did not tell."""
    from mtsearch.report.wording import count, listing
    from mtsearch.serving.requests import shown

    if done.by_place:
        asked = zip(done.by_place, ("user", "item"), strict=False)
        taken = listing([f"{shown(found)} as {name}" for found, name in asked])
        click.echo(f"{source}: no column user; took {taken}", err=True)
    click.echo(f"wrote {count(done.written, 'row')} for {count(done.read, noun)} to {output}", err=True)
    if done.unknown:
        click.echo(f"{done.unknown:,} of them with an id that the model was not trained on; they are marked", err=True)

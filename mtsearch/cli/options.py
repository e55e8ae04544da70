"""Options that several commands share, defined once."""

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mtsearch.definition import StudyDefinition


class OfOneStudy(click.Command):
    """A command that takes a study with `--study`, and says so to whoever names it without."""

    allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See Click."""
        rest = super().parse_args(ctx, args)
        if ctx.args:
            ctx.fail(f"unexpected argument {ctx.args[0]!r}; a study is named with --study {shlex.quote(ctx.args[0])}")
        return rest


storage = click.option(
    "--storage",
    metavar="URL",
    envvar="MTSEARCH_STORAGE",
    help="SQLite file or database URL.  [default: studies/mtsearch.db; MTSEARCH_STORAGE]",
)
study = click.option("--study", metavar="NAME", help="Name of the study.  [default: the one written last]")
output_format = click.option(
    "--format", "output_format", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True
)
overrides = click.option(
    "--set",
    "overrides",
    metavar="TABLE.KEY=VALUE",
    multiple=True,
    help="Change a value of the definition, written as in TOML; repeatable.",
)


def load_definition(
    source: str, overrides: Sequence[str], study: Mapping[str, str | int | None] | None = None
) -> "StudyDefinition":
    """The definition with `--set` and then the options that stand for values of its [study] table; None: not given."""
    from mtsearch.definition import StudyDefinition

    given = {f"study.{key}": value for key, value in (study or {}).items() if value is not None}
    return StudyDefinition.load(source, overrides, given)


def show_messages() -> None:
    """Send what the library has to say to stderr, one plain line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("mtsearch")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False

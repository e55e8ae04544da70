"""Options and arguments that several commands share, and the functions that read them."""

import logging
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mtsearch.cli.console import say

if TYPE_CHECKING:
    from mtsearch.study_file.definition import StudyDefinition


class OfOneStudy(click.Command):
    """Command whose study is named with `--study`; a study named without the option gets a hint."""

    allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; refuse one too many with a hint to name a study by `--study`."""
        rest = super().parse_args(ctx, args)
        if ctx.args:
            ctx.fail(f"unexpected argument {ctx.args[0]!r}; to name a study, use --study {shlex.quote(ctx.args[0])}")
        return rest


class CountOrAuto(click.IntRange):
    """Type of an option: a whole number from 1, or `auto`."""

    name = "count or 'auto'"

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return `auto` as it is, and any other value as a whole number from 1."""
        return value if value == "auto" else super().convert(value, param, ctx)


class Seconds(click.FloatRange):
    """Type of an option: a number of seconds above 0, and not NaN, which a range of Click accepts."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value as a number of seconds; NaN is refused."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


definition = click.argument("definition", required=False)
"""Argument for a study file or the name of a shipped definition; None takes the shipped default."""

storage = click.option(
    "--storage",
    metavar="URL",
    envvar="MTSEARCH_STORAGE",
    help="Where studies are stored: an SQLite file or a database URL.  "
    "[default: $MTSEARCH_STORAGE, else studies/mtsearch.db]",
)
study = click.option("--study", metavar="NAME", help="Name of the study.  [default: the study written last]")
output_format = click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="Form of the output.",
)
table_or_json = click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Form of the output.",
)
overrides = click.option(
    "--set",
    "overrides",
    metavar="TABLE.KEY=VALUE",
    multiple=True,
    help="Change a value of the definition, written as in TOML. May be given several times.",
)


def load_definition(
    source: str | None, overrides: Sequence[str], study: Mapping[str, str | int | None] | None = None
) -> "StudyDefinition":
    """Read a definition, and apply `--set` and then the options that stand for values of its [study] table.

    Args:
        source: path or name of the definition; None takes the shipped default.
        overrides: values of `--set`.
        study: values of the [study] table by key; None means that the option was not given.
    """
    from mtsearch import api

    return api.load_definition(source, overrides, _study_values(study or {}))


def stored_definition(
    name: str, storage: str | None, overrides: Sequence[str], study: Mapping[str, str | int | None]
) -> "StudyDefinition | None":
    """Read the definition that a stored study was begun with, and apply the options; None if there is no such study."""
    from mtsearch import api

    return api.load_stored_definition(name, storage, overrides, _study_values(study))


def _study_values(study: Mapping[str, str | int | None]) -> dict[str, str | int]:
    return {f"study.{key}": value for key, value in study.items() if value is not None}


def show_messages() -> None:
    """Print the library's log messages on stderr, one plain line each."""
    logger = logging.getLogger("mtsearch")
    logger.handlers = [_ToStderr()]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _ToStderr(logging.Handler):
    """Log handler that writes to the current stderr; a `StreamHandler` would keep the first one."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))

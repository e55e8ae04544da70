"""Options that several commands share, defined once."""

import logging
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mtsearch.cli.saying import say

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


class CountOrAuto(click.IntRange):
    """One or more, or `auto`."""

    name = "count or 'auto'"

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See Click."""
        return value if value == "auto" else super().convert(value, param, ctx)


class Seconds(click.FloatRange):
    """A number above 0; no range keeps NaN out."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See Click."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


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
table_or_json = click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True
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

    return StudyDefinition.load(source, overrides, _given(study or {}))


def stored_definition(
    name: str, storage: str | None, overrides: Sequence[str], study: Mapping[str, str | int | None]
) -> "StudyDefinition | None":
    """`load_definition` of what a study in the storage was begun with; None where there is no such study."""
    from mtsearch import api

    return api.begun_as(name, storage, overrides, _given(study))


def _given(study: Mapping[str, str | int | None]) -> dict[str, str | int]:
    return {f"study.{key}": value for key, value in study.items() if value is not None}


def show_messages() -> None:
    """Send what the library has to say to stderr, one plain line each."""
    logger = logging.getLogger("mtsearch")
    logger.handlers = [_ToStderr()]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _ToStderr(logging.Handler):
    """Writes to what stderr is at the time; a `StreamHandler` would keep what it was when the command began."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))

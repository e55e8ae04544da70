"""The command line `mtsearch`: the list of its commands, and the entry point that reports errors in one line."""

import signal
import sys
from importlib import import_module

import click

from mtsearch import __version__
from mtsearch.errors import MtsearchError
from mtsearch.signals import end_by_system, exit_on_second_signal, raise_on_termination
from mtsearch.text import nearest, quote

COMMANDS = {
    "run": "Run the trials of a study and store their results.",
    "check": "Check a study definition and describe it. Runs no trial.",
    "data": "Show how the ratings are read, filtered and split.",
    "init": "Write a commented study file to start from.",
    "guide": "Show the manual, one page per topic.",
    "front": "Show the best trials (Pareto front) and the baselines.",
    "plot": "Write an HTML page with the front and the search.",
    "dashboard": "Show the studies in optuna-dashboard.",
    "compare": "Compare two or more studies.",
    "report": "Evaluate the front on the test rows, over several seeds.",
    "export": "Select a trial and write its configuration to a file.",
    "retrain": "Train an exported configuration and write a model.",
    "recommend": "Recommend items with a trained model.",
    "predict": "Predict ratings with a trained model.",
    "serve": "Serve a trained model over HTTP.",
    "baselines": "Show the metrics of simple models without a search.",
    "studies": "List, rename, delete or upgrade stored studies.",
}

_INTERRUPTED, _KEPT = 130, "interrupted; what was finished is kept"


class _Commands(click.Group):
    """Group of the commands; each is imported when it is called, so that `--help` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"mtsearch.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {quote(args[0])}{nearest(args[0], COMMANDS)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mtsearch")
@click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")
def cli(debug: bool) -> None:
    """Search the hyperparameters of a recommender that predicts ratings and retrieves items.

    The main question is how to weigh its rating loss and its retrieval loss. To begin, type:

    \b
      mtsearch run --trials 50
    """


def main() -> None:
    """Run the command line and exit with its status.

    The status is 0 if all went well, 1 after an error with a message, 2 after a wrong command line, and 130 after an
    interrupt (Ctrl-C, SIGTERM or SIGHUP).
    """
    raise_on_termination()
    try:
        with exit_on_second_signal(_INTERRUPTED, _KEPT):
            cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(_interrupted())
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(_interrupted())
    except RuntimeError as error:
        # Before Python 3.12 an interrupt inside a class statement, as in a module's import, becomes a RuntimeError.
        if not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        sys.exit(_interrupted())
    except MtsearchError as error:
        if "--debug" in sys.argv:
            raise
        for line in str(error).splitlines():  # a study file may have several mistakes
            _say(f"error: {line}")
        sys.exit(error.exit_status)
    finally:
        end_by_system()  # nothing is left to do: from here on an interrupt would only show a traceback of Python's end
        # Dataclasses call exec at import. After a Ctrl-C inside such an exec, CPython keeps a flag, and `python -m`
        # ends itself with SIGINT even if the interrupt was caught. The next exec clears the flag.
        exec("")


def _interrupted() -> int:
    """Say that the run was interrupted and return the exit status for it."""
    # A second Ctrl-C while the interpreter ends would kill it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _say(_KEPT)
    return _INTERRUPTED


def _say(line: str) -> None:
    from mtsearch.cli.console import say  # imported here: `--help` has nothing to say

    say(line)

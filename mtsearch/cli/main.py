"""`mtsearch`: finds the command, and says errors in one line."""

import signal
import sys
from importlib import import_module

import click

from mtsearch import __version__
from mtsearch.cli.saying import say
from mtsearch.errors import MtsearchError
from mtsearch.search.interrupts import end_by_exception, end_by_system, ended_by_second_signal

COMMANDS = {
    "run": "Search: run trials of a study and keep them.",
    "check": "Read a definition and show what it makes; runs nothing.",
    "data": "Show the ratings: how they are read, dropped and split.",
    "init": "Write a commented definition to start from.",
    "front": "Show the front of a study beside the baselines.",
    "plot": "Write one page with the front and what led to it.",
    "dashboard": "Browse the studies in optuna-dashboard.",
    "compare": "Show what sets two studies or more apart.",
    "report": "Judge the front on test, over several seeds.",
    "export": "Choose a trial and write its configuration.",
    "retrain": "Train an exported configuration again and write a model.",
    "recommend": "Recommend items with a trained model.",
    "predict": "Predict ratings with a trained model.",
    "serve": "Answer over HTTP with a trained model.",
    "baselines": "Show what needs no search, on the same split.",
    "studies": "List the studies in a storage.",
}

_INTERRUPTED, _KEPT = 130, "interrupted; what was finished is kept"


class _Commands(click.Group):
    """Imports a command when it is called, so that `--help` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"mtsearch.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mtsearch")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Find out how to weigh the rating and the retrieval loss of a joint recommender.

    `mtsearch run --trials 50` is where to begin.
    """


def main() -> None:
    """The entry point; exit status 0 done, 1 a named error, 2 usage, 130 interrupted: Ctrl-C, SIGTERM, SIGHUP."""
    end_by_exception()
    try:
        with ended_by_second_signal(_INTERRUPTED, _KEPT):
            cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(_interrupted())
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(_interrupted())
    except RuntimeError as error:
        # Before Python 3.12 that is what an interrupt in the midst of a class becomes, as of a module's import.
        if not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        sys.exit(_interrupted())
    except MtsearchError as error:
        if "--debug" in sys.argv:
            raise
        for line in str(error).splitlines():  # a study file may have several mistakes
            say(f"error: {line}")
        sys.exit(error.exit_status)
    finally:
        end_by_system()  # all is done and said: an exception would be a traceback, of whatever Python does at its end
        # A Ctrl-C inside an exec of text, as dataclasses do at import, leaves CPython a mark by which `python -m` kills
        # itself with SIGINT at its end, caught or not; the next exec takes it away.
        exec("")


def _interrupted() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # another one, while the interpreter ends, would kill it
    say(_KEPT)
    return _INTERRUPTED

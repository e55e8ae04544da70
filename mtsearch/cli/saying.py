"""What a command says on stderr, which may have no reader any more."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click


def say(line: str) -> None:
    """Write a line to stderr."""
    with readers_may_leave():
        click.echo(line, err=True)


@contextmanager
def readers_may_leave() -> Iterator[None]:
    """Within it, a stderr that cannot be written is given up: what follows goes nowhere, and the work goes on.

    A closed terminal, the end of a pipe (`2>&1 | tee log` dies of the Ctrl-C that is meant for the run), a full disk.
    """
    try:
        yield
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)

"""`mtsearch guide`."""

import sys

import click

WIDEST = 120
"""Columns of a page at most: longer lines of text are hard to follow."""


@click.command()
@click.argument("topic", required=False)
@click.pass_context
def command(context: click.Context, topic: str | None) -> None:
    """Show the page of the manual on TOPIC; without one, list the topics.

    On a terminal the page is formatted, and a long one is shown in a pager. Piped elsewhere it is plain Markdown.
    """
    from mtsearch.guide import guide, guide_topics

    if topic is None:
        _list(guide_topics())
        return
    try:
        page = guide(topic)
    except ValueError as error:
        context.fail(str(error))
    if sys.stdout.isatty():
        _show(page)
    else:
        click.echo(page, nl=False)


def _list(topics: dict[str, str]) -> None:
    widest = max(map(len, topics))
    for topic, title in topics.items():
        click.echo(f"{topic:{widest}}  {title}")
    click.echo("next: mtsearch guide TOPIC", err=True)


def _show(page: str) -> None:
    """Print a page on a terminal, through a pager if it is longer than the screen."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    with console.capture() as captured:
        console.print(Markdown(page, hyperlinks=False), width=min(console.width, WIDEST))
    text = captured.get()
    if text.count("\n") < console.height:
        click.echo(text, nl=False)
    else:
        click.echo_via_pager(text)

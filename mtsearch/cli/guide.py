"""The command `mtsearch guide`."""

import sys

import click

WIDEST = 120
"""Greatest width of a page, in columns; longer lines of text are hard to read."""


@click.command()
@click.argument("topic", required=False)
@click.pass_context
def command(context: click.Context, topic: str | None) -> None:
    """Show the page of the manual on TOPIC. Without TOPIC, list the topics.

    On a terminal the page is formatted, and a long page is shown in a pager. Otherwise the output is plain Markdown.
    """
    from mtsearch.guide import guide, guide_topics

    if topic is None:
        _print_topics(guide_topics())
        return
    try:
        page = guide(topic)
    except ValueError as error:
        context.fail(str(error))
    if sys.stdout.isatty():
        _show(page)
    else:
        click.echo(page, nl=False)


def _print_topics(topics: dict[str, str]) -> None:
    """Print each topic with the title of its page."""
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

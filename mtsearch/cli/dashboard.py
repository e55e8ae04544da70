"""The command `mtsearch dashboard`."""

import click

from mtsearch.cli import options


@click.command(cls=options.OfOneStudy)
@options.study
@options.storage
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address or host name to listen on."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True,
              help="Port to listen on; if it is in use, the next free one. 0 takes any free port.")  # fmt: skip
@click.option("--open", "open_browser", is_flag=True, help="Open the page in a browser.")
def command(study: str | None, storage: str | None, host: str, port: int, open_browser: bool) -> None:
    """Show the studies in optuna-dashboard, with the front, a note and the learning curves of one study.

    The pages are updated while trials run. No trial can be changed from them. Ctrl-C ends the command with exit
    status 0.
    """
    from mtsearch import api

    options.show_messages()

    def ready(name: str, address: str) -> None:
        click.echo(f"study {name} is shown on {address}; press Ctrl-C to end", err=True)
        if open_browser:
            click.launch(address)

    api.dashboard(study, storage, host=host, port=port, ready=ready)

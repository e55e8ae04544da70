"""`mtsearch dashboard`."""

import click

from mtsearch.cli import options


@click.command(cls=options.OfOneStudy)
@options.study
@options.storage
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True,
              help="Where it is taken, the next free one; 0 takes any.")  # fmt: skip
@click.option("--open", "open_browser", is_flag=True, help="Open a browser.")
def command(study: str | None, storage: str | None, host: str, port: int, open_browser: bool) -> None:
    """Browse the studies in optuna-dashboard, the study's front, note and curves among its plots.

    It goes along while trials run, changes none, and ends with Ctrl-C and exit status 0.
    """
    from mtsearch.report.dashboard_server import serve
    from mtsearch.search.storage import masked, resolve_url

    options.show_messages()

    def ready(name: str, address: str) -> None:
        click.echo(f"study {name} is shown on {address}; Ctrl-C ends it", err=True)
        if open_browser:
            click.launch(address)

    serve(resolve_url(storage), study, host, port, ready, storage and masked(storage))

"""The command `mtsearch serve`."""

from pathlib import Path

import click

from mtsearch.errors import MachineError


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address or host name to listen on."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on. 0 takes any free port.",
)
def command(folder: Path, host: str, port: int) -> None:
    """Serve the model in DIR over HTTP: /recommend, /predict, /health, /card; /docs describes all addresses.

    DIR is a model folder that `mtsearch retrain` wrote. Ctrl-C ends the command with exit status 0, after the requests
    that have begun.
    """
    from mtsearch import api

    try:
        api.serve(
            folder,
            host=host,
            port=port,
            ready=lambda url: click.echo(f"{folder} is served on {url}; press Ctrl-C to end", err=True),
        )
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "starlette", "uvicorn"):
            raise
        raise MachineError(f"mtsearch serve needs {error.name}", "run: pip install 'mtsearch[serve]'") from None

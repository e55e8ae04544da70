"""`mtsearch serve`."""

from pathlib import Path

import click

from mtsearch.errors import MachineError


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
def command(folder: Path, host: str, port: int) -> None:
    """Answer over HTTP with the model in DIR: /recommend, /predict, /health, /card, and /docs for the rest.

    Ctrl-C finishes the requests that have begun and ends with exit status 0.
    """
    try:
        from mtsearch.serving.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "starlette", "uvicorn"):
            raise
        raise MachineError(f"mtsearch serve needs {error.name}", "pip install 'mtsearch[serve]'") from None
    serve(folder, host, port, lambda url: click.echo(f"{folder} is served on {url}; Ctrl-C ends it", err=True))

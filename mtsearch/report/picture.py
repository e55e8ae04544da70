"""The front as a picture, drawn by a Chrome of this machine through Kaleido."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from mtsearch.errors import MachineError
from mtsearch.files import write_whole
from mtsearch.report.figures import front_figure

if TYPE_CHECKING:
    from mtsearch.search.record import StudyRecord

INK = "#1b1f24"
_WIDTH, _HEIGHT = 1200, 760  # pixels, the height unless the figure has its own; a PNG has twice as many


def write_picture(record: StudyRecord, place: Path) -> Path:
    """Write the figure of the front on white, whole or not at all.

    Args:
        record: of the study.
        place: the file; its ending, .png or .svg, says as what.

    Raises:
        MachineError: Kaleido or a Chrome is missing, the ending is another, or the file cannot be written.
    """
    kind = place.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise MachineError(f"{place} is no picture", "let its name end in .png or .svg")
    if importlib.util.find_spec("kaleido") is None:
        raise MachineError("pictures need kaleido", "pip install 'mtsearch[images]'")
    figure = front_figure(record, still=True)
    figure.update_layout(paper_bgcolor="white", plot_bgcolor="white", font_color=INK)
    write_whole(place, _drawn(figure, figure.layout.height or _HEIGHT, kind))
    return place


def _drawn(figure: object, height: int, kind: str) -> bytes:
    from choreographer.errors import BrowserFailedError, ChromeNotFoundError
    from plotly.io import to_image

    remedy = "install Chrome or Chromium, or name one in BROWSER_PATH"
    try:
        picture: bytes = to_image(figure, format=kind, width=_WIDTH, height=height, scale=2 if kind == "png" else 1)
    except (ChromeNotFoundError, BrowserFailedError) as error:
        raise MachineError(f"pictures need Chrome: {str(error).splitlines()[0]}", remedy) from None
    except RuntimeError as error:  # Plotly's own for a Chrome that Kaleido has not found
        if "Chrome" not in str(error):
            raise
        raise MachineError("pictures need Chrome, and none was found", remedy) from None
    return picture

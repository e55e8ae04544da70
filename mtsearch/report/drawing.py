"""How every figure looks: colours, fonts, axes, and text that is no markup.

Colours are Okabe and Ito's, which the colour-blind tell apart, in mid tones that read on white and on near black; every
kind of point has its own symbol too. Backgrounds are transparent, so that a page decides.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from plotly.offline import get_plotlyjs

from mtsearch.report.wording import plain, shortened

BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#808890"
PALETTE = (BLUE, VERMILION, GREEN, "#CC79A7", "#B8860B", "#56B4E9")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")
CLEAR = "rgba(0,0,0,0)"
SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"


def plotly_js() -> str:
    """The source of plotly.js, as installed with Plotly."""
    source: str = get_plotlyjs()
    return source


def layout(x: dict[str, Any], y: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The layout of a figure with these two axes."""
    return {
        "template": "none",
        "xaxis": x,
        "yaxis": y,
        "font": {"family": SANS, "size": 13, "color": GREY},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "#1f2328", "bordercolor": GREY, "align": "left",
                       "font": {"color": "#ffffff", "family": SANS, "size": 13}},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "yref": "container", "y": 0, "yanchor": "bottom"},
        "modebar": {"bgcolor": CLEAR, "color": GREY, "activecolor": BLUE},
        "margin": {"l": 64, "r": 16, "t": 28, "b": 96},
        **changes,
    }  # fmt: skip


def axis(title: str, **changes: Any) -> dict[str, Any]:
    """An axis; its title may hold Plotly's markup."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 14}},
        "gridcolor": "rgba(128,136,144,0.2)",
        "linecolor": GREY,
        "zeroline": False,
        "automargin": True,
        **changes,
    }


def text(value: str, width: int = 60) -> str:
    """Plain text, no longer than a label may be, for Plotly, which renders a part of HTML wherever it shows text."""
    return html.escape(shortened(plain(value), width), quote=False)


def folded(name: str) -> str:
    """`text` that may break after an underscore."""
    return text(name, 30).replace("_", "_<br>")


def rounded(values: Sequence[Any], digits: int = 5) -> list[Any]:
    """Numbers to so many significant digits, which no plot can show more of; None for what is not finite."""
    return [_rounded(value, digits) for value in values]


def _rounded(value: Any, digits: int) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None

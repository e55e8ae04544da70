"""Style of all figures: colours, fonts, axes, and text that Plotly does not read as markup.

Colours are Okabe and Ito's, which the colour-blind tell apart, in mid tones that read on white and on near black; every
kind of point has its own symbol too. Backgrounds are transparent, so that a page decides.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from plotly.offline import get_plotlyjs

from mtsearch.text import plain, shorten

BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#808890"
PALETTE = (BLUE, VERMILION, GREEN, "#CC79A7", "#B8860B", "#56B4E9")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")
CLEAR = "rgba(0,0,0,0)"
SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"


def plotly_js() -> str:
    """Return the source of plotly.js as installed with Plotly."""
    source: str = get_plotlyjs()
    return source


def layout(x: dict[str, Any], y: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the layout of a figure with two axes."""
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
    """Return the layout of an axis; its title may hold Plotly's markup."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 14}},
        "gridcolor": "rgba(128,136,144,0.2)",
        "linecolor": GREY,
        "zeroline": False,
        "automargin": True,
        **changes,
    }


def text(value: str, width: int = 60) -> str:
    """Return plain text cut to a width and escaped for Plotly, which renders a part of HTML in all text."""
    return html.escape(shorten(plain(value), width), quote=False)


def folded(name: str) -> str:
    """Return escaped text that may break after an underscore."""
    return text(name, 30).replace("_", "_<br>")


def rounded(values: Sequence[Any], digits: int = 5) -> list[Any]:
    """Return numbers rounded to significant digits, and None for each number that is not finite."""
    return [_rounded(value, digits) for value in values]


def _rounded(value: Any, digits: int) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


Pair = tuple[int, int]
"""Two objectives: the horizontal and the vertical one of a plane or of a panel."""

PLANE: Pair = (0, 1)
"""The only pair of two objectives, and the first panel of a matrix."""

_GAP = 0.03  # between two panels, as a share of the matrix
_PANEL, _AROUND = 270, 170  # pixels: the height of a panel, and what titles and legend take besides


def pairs(objectives: int) -> list[Pair]:
    """Return every pair of objectives, the earlier one horizontal, in the order of the panels of a matrix."""
    return [(column, row) for row in range(1, objectives) for column in range(row)]


def axes_of(pair: tuple[int | None, int]) -> tuple[str, str]:
    """Return Plotly's names of a panel's axes; a column shares its horizontal axis, a row its vertical one."""
    column, row = pair
    return f"x{column + 1}" if column else "x", f"y{row}" if row > 1 else "y"


def matrix_layout(titles: Sequence[str], ranges: Sequence[Sequence[float] | None], **changes: Any) -> dict[str, Any]:
    """Return the layout of a matrix of panels, one per pair of objectives, in the lower triangle.

    Args:
        titles: of each objective's axis, with Plotly's markup.
        ranges: of each objective what is in view; None: all.
        changes: of the layout.
    """
    side = len(titles) - 1
    panel = (1 - _GAP * (side - 1)) / side
    starts = [place * (panel + _GAP) for place in range(side)]
    # Rounding may put the ends slightly above 1.
    domains = [[start, min(1.0, start + panel)] for start in starts]
    axes = {}
    for index, (title, shown) in enumerate(zip(titles, ranges, strict=True)):
        drawn = axis(title, range=list(shown) if shown else None, mirror="all", showline=True)
        drawn["title"]["font"] = {"size": 12}
        if index < side:
            axes[f"xaxis{index + 1}"] = {**drawn, "domain": domains[index], "anchor": f"y{side}"}
        if index > 0:
            axes[f"yaxis{index}"] = {**drawn, "domain": domains[side - index], "anchor": "x"}
    return layout(axes.pop("xaxis1"), axes.pop("yaxis1"), height=_AROUND + _PANEL * side, **axes, **changes)

"""One HTML document with its figures, scripts and policy, and how it is written."""

from __future__ import annotations

import base64
import hashlib
import html
from importlib import resources
from pathlib import Path
from string import Template
from typing import Literal

from plotly.offline import get_plotlyjs_version

from mtsearch.files import write_whole
from mtsearch.report.drawing import plotly_js
from mtsearch.report.markup import Html, packed, tag

Source = Literal["inline", "cdn"]


def document(title: str, body: Html, data: str, plotlyjs: Source = "inline") -> str:
    """The whole document.

    Args:
        title: plain text.
        body: with a `.figure` for each figure.
        data: JSON for the script.
        plotlyjs: `inline`, or `cdn`: fetched from Plotly's server, which must send exactly what is installed here.
    """
    plotly, script = plotly_js(), _resource("page.js")
    if plotlyjs == "cdn":
        url = f"https://cdn.plot.ly/plotly-{get_plotlyjs_version()}.min.js"
        source = tag("script", src=url, integrity=_digest(plotly), crossorigin="anonymous", charset="utf-8")
        policy = _policy(url, f"'{_digest(script)}'")
    else:
        source = tag("script", Html(plotly))
        policy = _policy(f"'{_digest(plotly)}'", f"'{_digest(script)}'")
    return Template(_resource("page.html")).substitute(
        policy=html.escape(policy),
        title=html.escape(title),
        body=body,
        data=packed(data, "data"),
        plotly=source,
        script=script,
    )


def write_document(text: str, place: Path) -> Path:
    """Write a document, whole or not at all, and say where it is.

    Args:
        text: of it.
        place: the file, if its name ends in .html and it is no folder; else the folder, for an `index.html` in it.

    Raises:
        MachineError: the folder cannot be made or the file written.
    """
    is_file = place.suffix.lower() in (".html", ".htm") and not place.is_dir()
    target = place if is_file else place / "index.html"
    write_whole(target, text.encode("utf-8", "replace"))
    return target


def _policy(*scripts: str) -> str:
    """A content security policy: exactly these scripts run, and nothing else is fetched, whatever a name contains."""
    rest = "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {' '.join(scripts)}; {rest}"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _resource(name: str) -> str:
    return resources.files("mtsearch.report").joinpath(name).read_text(encoding="utf-8")

"""HTML that is escaped by default: elements, the front as a table, and self-contained documents."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Literal

from mtsearch.files import write_atomically
from mtsearch.report.tables import (
    TableRow,
    four_decimals,
    heading,
    param_cells,
    param_names,
    spread_cells,
    spread_legend,
    table_rows,
)
from mtsearch.text import plain

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mtsearch.search.results import StudyResults


def figure_div(drawn: go.Figure, label: str, class_: str = "") -> Html:
    """Return an empty element in which the page's script draws a Plotly figure."""
    data = packed(drawn.to_json())
    kind = f"figure {class_}".strip()
    return tag("div", tag("div", class_="plot", role="group", aria_label=plain(label)), data, class_=kind)


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Html:
    """Return an element with its children escaped; `class_` stands for `class`, `data_x` for `data-x`."""
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    opening = "".join(f' {key}="{html.escape(value)}"' for key, value in named.items())
    return Html(f"<{name}{opening}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Html:
    """Return the children one after another, with plain text escaped."""
    return Html("".join(child if isinstance(child, Html) else html.escape(child) for child in children))


def section(title: str, *children: str, id_: str) -> Html:
    """Return a section of the page with its heading and an id for links."""
    return tag("section", tag("h2", title), *children, id=id_)


def table(headings: Sequence[str], rows: Iterable[Html]) -> Html:
    """Return a table that scrolls sideways on a narrow screen."""
    head = tag("thead", tag("tr", *(tag("th", heading, scope="col") for heading in headings)))
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="wide", tabindex="0")


def row(name: str, cells: Iterable[str], class_: str = "") -> Html:
    """Return a row of a table, with its name in the first cell."""
    return tag("tr", tag("th", name, scope="row"), *(tag("td", cell) for cell in cells), class_=class_)


def definitions(pairs: Iterable[tuple[str, str]]) -> Html:
    """Return a list of names with their values."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs))


def card(label: str, value: str, *details: str) -> Html:
    """Return a card with a label, a large number, and details below it."""
    return tag("div", tag("h3", label), tag("p", value, class_="value"), *details, class_="card")


def packed(text: str, id_: str = "") -> Html:
    """Return data for the page's script as gzip in base64, a third of the size and never read as markup."""
    content = base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), mtime=0)).decode()
    named = {"id": id_} if id_ else {}
    return tag("script", Html(content), type="application/gzip", **named)


Source = Literal["inline", "cdn"]


def document(title: str, body: Html, data: str, plotlyjs: Source = "inline") -> str:
    """Return a whole HTML document.

    Args:
        title: the title as plain text.
        body: the page's content, with a `.figure` element for each figure.
        data: JSON for the script.
        plotlyjs: `inline` puts plotly.js into the page; `cdn` loads it from Plotly's server, and the browser accepts
            only the version that is installed here.
    """
    from plotly.offline import get_plotlyjs_version

    from mtsearch.report.plot_style import plotly_js

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
    """Write a document, whole or not at all, and return its path.

    Args:
        text: the document as HTML.
        place: a file if the name ends in .html and is no folder; else a folder, which gets an `index.html`.

    Raises:
        MachineError: the folder cannot be made or the file written.
    """
    is_file = place.suffix.lower() in (".html", ".htm") and not place.is_dir()
    target = place if is_file else place / "index.html"
    write_atomically(target, text.encode("utf-8", "replace"))
    return target


def _policy(*scripts: str) -> str:
    """Return a content security policy that allows exactly these scripts and no request to other servers."""
    rest = "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {' '.join(scripts)}; {rest}"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _resource(name: str) -> str:
    return resources.files("mtsearch.report").joinpath(name).read_text(encoding="utf-8")


def front_html(results: StudyResults) -> Html:
    """Return a table of the front and the baselines, with spreads in separate columns; empty without either."""
    rows, names = table_rows(results), param_names(results)
    if not rows:
        return Html()
    objectives = _with_spreads(map(heading, results.objectives), ["±"] * len(results.objectives), results)
    headings = ["", *objectives, *map(plain, names), ""]
    legend = (tag("p", line) for line in spread_legend(results))
    return join((table(headings, [_table_row(each, results, names) for each in rows]), *legend))


def _table_row(shown: TableRow, results: StudyResults, names: Sequence[str]) -> Html:
    values = _with_spreads(map(four_decimals, shown.values), spread_cells(shown), results)
    cells = [*values, *param_cells(shown, names), shown.note]
    return row(plain(shown.name), cells, "baseline" if shown.is_baseline else shown.note)


def _with_spreads(values: Iterable[str], spreads: Sequence[str], results: StudyResults) -> list[str]:
    """Return each value followed by its spread; without any spread in the study, the values alone."""
    pairs = zip(values, spreads, strict=True)
    return [text for value, spread in pairs for text in ([value, spread] if results.spread_of else [value])]

"""HTML as values: what is not `Html` already is text and gets escaped, so that forgetting to is impossible."""

import base64
import gzip
import html
from collections.abc import Iterable, Sequence


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Html:
    """An element; `class_` stands for `class`, `data_x` for `data-x`."""
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    opening = "".join(f' {key}="{html.escape(value)}"' for key, value in named.items())
    return Html(f"<{name}{opening}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Html:
    """The children one after another, text escaped."""
    return Html("".join(child if isinstance(child, Html) else html.escape(child) for child in children))


def section(title: str, *children: str, id_: str) -> Html:
    """A part of the page with its heading, linkable by its id."""
    return tag("section", tag("h2", title), *children, id=id_)


def table(headings: Sequence[str], rows: Iterable[Html]) -> Html:
    """A table that scrolls sideways by itself where the screen is narrow."""
    head = tag("thead", tag("tr", *(tag("th", heading, scope="col") for heading in headings)))
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="wide", tabindex="0")


def row(name: str, cells: Iterable[str], class_: str = "") -> Html:
    """A table's row; its first cell names it."""
    return tag("tr", tag("th", name, scope="row"), *(tag("td", cell) for cell in cells), class_=class_)


def definitions(pairs: Iterable[tuple[str, str]]) -> Html:
    """Names and values below each other."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs))


def card(label: str, value: str, *details: str) -> Html:
    """A headline figure: what it is, the number, and what stands behind it."""
    return tag("div", tag("h3", label), tag("p", value, class_="value"), *details, class_="card")


def packed(text: str, id_: str = "") -> Html:
    """Data for the page's script, gzip in base64: a third of the size, and nothing in it can be taken for markup."""
    content = base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), mtime=0)).decode()
    named = {"id": id_} if id_ else {}
    return tag("script", Html(content), type="application/gzip", **named)

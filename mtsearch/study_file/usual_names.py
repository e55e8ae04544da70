"""Names that columns usually have, for training and for serving alike."""

import re
from collections.abc import Mapping, Sequence

_THINGS = ("movie", "product", "book", "track", "song", "artist", "article", "game", "video", "business", "anime")
_USUAL: Mapping[str, Sequence[str]] = {
    "user": ("userid", "user", "uid", "users", "customerid", "customer", "memberid", "visitorid", "reviewerid"),
    "item": ("itemid", "item", "iid", "items", *(f"{thing}id" for thing in _THINGS), "asin", "isbn", *_THINGS),
    "rating": ("rating", "ratings", "stars", "score", "overall", "userrating"),
    "count": ("count", "counts", "clicks", "plays", "playcount", "views", "listens", "purchases", "quantity"),
    "timestamp": ("timestamp", "time", "ts", "date", "datetime", "unixreviewtime", "createdat", "eventtime"),
    "title": ("title", "name", "movietitle", "itemtitle", "itemname", "productname"),
}
"""Without signs and in small letters, the likeliest first."""


def usual_places(names: Sequence[str], key: str) -> list[int]:
    """Places of the columns that have the likeliest of the key's usual names that any column has.

    Args:
        names: of the columns, as the file writes them.
        key: what is looked for, such as `user`; one without usual names has no columns.

    Returns:
        Nothing where no column has a usual name; several where the names do not tell which is meant.
    """
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in names]
    likeliest = next((usual for usual in _USUAL.get(key, ()) if usual in plain), None)
    return [place for place, name in enumerate(plain) if name == likeliest]

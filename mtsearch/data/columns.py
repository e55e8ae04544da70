"""Which column of a table is what: as the study file says, else by names that are usual."""

import re
from collections.abc import Iterable, Mapping, Sequence

from mtsearch.data.table_files import TYPED, TableFile
from mtsearch.errors import MalformedData
from mtsearch.study_file.mistakes import nearest, short

_THINGS = ("movie", "product", "book", "track", "song", "artist", "article", "game", "video", "business", "anime")
_USUAL: Mapping[str, Sequence[str]] = {
    "user": ("userid", "user", "uid", "users", "customerid", "customer", "memberid", "visitorid", "reviewerid"),
    "item": ("itemid", "item", "iid", "items", *(f"{thing}id" for thing in _THINGS), "asin", "isbn", *_THINGS),
    "rating": ("rating", "ratings", "stars", "score", "overall", "userrating"),
    "count": ("count", "counts", "clicks", "plays", "playcount", "views", "listens", "purchases", "quantity"),
    "timestamp": ("timestamp", "time", "ts", "date", "datetime", "unixreviewtime", "createdat", "eventtime"),
    "title": ("title", "name", "movietitle", "itemtitle", "itemname", "productname", "productname"),
}
"""Without signs and in small letters, the likeliest first."""


def choose(file: TableFile, given: Mapping[str, str | None], table: str, required: Iterable[str]) -> dict[str, str]:
    """The name of the column for each of the keys of `given` that has one.

    Args:
        file: a table.
        given: names from the study file; None where it says nothing.
        table: the key of [data] that they are under.
        required: keys that must have a column.

    Raises:
        MalformedData: no such column, none of a usual name, several, or one for two things.
    """
    chosen: dict[str, str] = {}
    for key, name in given.items():
        found = _usual(file, key, table) if name is None else _named(file, name)
        if found is not None:
            chosen[key] = found
        elif key in required:
            known = ", ".join(map(repr, file.names))
            raise MalformedData(
                f"{file.place}: no column for {key} among {short(known)}",
                f'name it under [data]: {table} = {{ {key} = "..." }}',
            )
    for key, name in chosen.items():
        if file.names.count(name) > 1:
            raise MalformedData(f"{file.place}: two columns are called {name!r}", "rename one of them")
        if other := next((each for each, column in chosen.items() if column == name and each != key), None):
            raise MalformedData(f"{file.place}: column {name!r} is both {key} and {other}", f"name another in {table}")
    return chosen


def _named(file: TableFile, name: str) -> str:
    for known in file.names:
        if name in (known, _untyped(file, known)):
            return known
    raise MalformedData(
        f"{file.place}: no column {name!r}{nearest(name, file.names)}", "name one that is there under [data]"
    )


def _usual(file: TableFile, key: str, table: str) -> str | None:
    plain = {name: re.sub(r"[^a-z0-9]", "", _untyped(file, name).lower()) for name in file.names}
    for usual in _USUAL.get(key, ()):
        found = [name for name, bare in plain.items() if bare == usual]
        if len(found) > 1:
            raise MalformedData(
                f"{file.place}: {found[0]!r} and {found[1]!r} may both be the {key}",
                f'name one under [data]: {table} = {{ {key} = "..." }}',
            )
        if found:
            return found[0]
    return None


def _untyped(file: TableFile, name: str) -> str:
    """The name in a heading of RecBole's, `user_id:token`; any other as it is."""
    return name.partition(":")[0] if file.place.removesuffix(".gz").endswith(TYPED) else name

"""Which column of a table is what: as the study file says, else by names that are usual."""

from collections.abc import Iterable, Mapping

from mtsearch.data.table_files import TYPED, TableFile
from mtsearch.errors import MalformedData
from mtsearch.study_file.mistakes import nearest, short
from mtsearch.study_file.usual_names import usual_places


def choose(file: TableFile, given: Mapping[str, str | None], table: str, required: Iterable[str]) -> dict[str, str]:
    """The name of the column for each of the keys of `given` that has one.

    Args:
        file: a table.
        given: names from the study file, that of `part` from [split]; None where it says nothing.
        table: the key of [data] that the others are under.
        required: keys that must have a column.

    Raises:
        MalformedData: no such column, none of a usual name, several, or one for two things.
    """
    chosen: dict[str, str] = {}
    for key, name in given.items():
        found = _usual(file, key, table) if name is None else _named(file, key, name)
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
            place = "[split]" if "part" in (key, other) else table
            raise MalformedData(f"{file.place}: column {name!r} is both {key} and {other}", f"name another in {place}")
    return chosen


def _named(file: TableFile, key: str, name: str) -> str:
    for known in file.names:
        if name in (known, _untyped(file, known)):
            return known
    place = "[split]" if key == "part" else "[data]"
    raise MalformedData(
        f"{file.place}: no column {name!r}{nearest(name, file.names)}", f"name one that is there under {place}"
    )


def _usual(file: TableFile, key: str, table: str) -> str | None:
    places = usual_places([_untyped(file, name) for name in file.names], key)
    found = list(dict.fromkeys(file.names[place] for place in places))
    if len(found) > 1:
        raise MalformedData(
            f"{file.place}: {found[0]!r} and {found[1]!r} may both be the {key}",
            f'name one under [data]: {table} = {{ {key} = "..." }}',
        )
    return found[0] if found else None


def _untyped(file: TableFile, name: str) -> str:
    """The name in a heading of RecBole's, `user_id:token`; any other as it is."""
    return name.partition(":")[0] if file.place.removesuffix(".gz").endswith(TYPED) else name

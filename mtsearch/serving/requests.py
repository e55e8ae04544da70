"""What may be asked of a model: ids and numbers, bounded before TensorFlow sees them."""

from collections.abc import Iterable

from mtsearch.errors import RequestError

MAX_ID = 256
"""Characters of a user's or an item's id."""


def check_ids(ids: Iterable[str], what: str) -> None:
    """Refuse the first id that cannot be one.

    Args:
        ids: to check.
        what: `user` or `item`.

    Raises:
        RequestError: it says which id, and why.
    """
    for place, id_ in enumerate(ids):
        problem = problem_of(id_)
        if problem:
            where = f" ({place + 1}.)" if place else ""
            raise RequestError(f"{what} id{where}: {shown(id_)} {problem}", f"give the {what}'s id as in the data")


def problem_of(id_: str) -> str:
    """Why this can be nobody's id; empty where it can."""
    if not id_:
        return "is empty"
    if len(id_) > MAX_ID:
        return f"has {len(id_):,} characters; at most {MAX_ID} are allowed"
    if "\0" in id_:
        return "holds a NUL byte"
    try:
        id_.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return ""


def check_k(k: int, catalogue: int) -> None:
    """Refuse a number of recommendations that the catalogue cannot give.

    Raises:
        RequestError: k is not in 1..C.
    """
    if not 1 <= k <= catalogue:
        said = f"k = {k}" if abs(k) < 10**15 else "k"
        raise RequestError(f"{said} is not between 1 and {catalogue}, the number of items in the catalogue",
                           f"ask for at most {catalogue}")  # fmt: skip


def shown(id_: str) -> str:
    """An id as an error names it: quoted, escaped, at most 40 characters."""
    return repr(id_ if len(id_) <= 40 else id_[:39] + "…")

"""Load the ratings of a named source or a path as the canonical table."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mtsearch.data.interactions import Interactions
from mtsearch.errors import MalformedData, SourceUnavailable

if TYPE_CHECKING:
    from mtsearch.study_file.sections import DataSection, SplitSection

logger = logging.getLogger("mtsearch")

_TABLE_KEYS = ("columns", "items", "item_columns")
_ZIP = b"PK"
_MEMBERS = ("u.data", "u.item")


def load(section: DataSection, split: SplitSection | None = None) -> Interactions:
    """Load the ratings of a study file as the canonical table; the log tells their source and the dropped rows.

    Args:
        section: `source` is one of `source_names`, or the path of an ml-100k folder or zip, or of a table.
        split: how the rows are divided, by a column of the table or by times; None if it is not known.

    Raises:
        SourceUnavailable: the name or path does not exist, or cannot be reached.
        MalformedData: a file has wrong content.
    """
    if section.source.startswith("movielens/"):
        from mtsearch.data.movielens import EDITIONS, load_movielens

        if edition := EDITIONS.get(section.source):
            _require_no_columns(section, split)
            return _clean(load_movielens(edition), section)
    if section.source.startswith("synthetic/"):
        from mtsearch.data.synthetic import SIZES, make_synthetic

        if size := SIZES.get(section.source):
            _require_no_columns(section, split)
            # NOTE: not cached: 25 million rows are made in 10 s. Reading them from a cache would take a seventh of
            # that, and 480 MiB of disk.
            interactions = make_synthetic(*size)
            logger.info("data: %s synthetic rows", f"{len(interactions.rows):,}")
            return _clean(interactions, section)
    path = _require_path(section.source)

    from mtsearch.data import tables  # Arrow takes 0.1 s to import
    from mtsearch.data.table_files import SUFFIXES, is_table

    # NOTE: local files are not cached: 100,000 rows parse in 0.2 s, and a cache would have to notice every edit.
    if not is_table(path) or (path / "u.data").exists():
        _require_folder_or_zip(path, SUFFIXES)
        _require_no_columns(section, split)
        logger.info("data: ml-100k files from %s", path)
        from mtsearch.data.movielens_100k import read_original_files

        return _clean(read_original_files(path), section)
    interactions = tables.read_tables(path, section, split)
    logger.info("data: %s rows from %s; %s", f"{len(interactions.rows):,}", path, interactions.report)
    ratings = interactions.rows.ratings
    if ratings.min() == ratings.max():
        logger.warning(
            "data: every rating is %g, so rmse and mae cannot tell good models from bad ones; "
            "choose other [study] objectives, such as top_100 and mrr",
            ratings[0],
        )
    return interactions


def _require_folder_or_zip(path: Path, suffixes: Sequence[str]) -> None:
    """Refuse a file that is neither a folder nor a zip.

    A damaged zip and a file that cannot be opened pass: the reader of ml-100k gives the better message.

    Raises:
        MalformedData: the path is a file of another kind.
    """
    if path.is_dir() or path.suffix.lower() == ".zip":
        return
    try:
        with path.open("rb") as file:
            begin = file.read(len(_ZIP))
    except OSError:
        return
    if begin == _ZIP:
        return
    if path.name in _MEMBERS:
        raise MalformedData(f"{path} is one of the files of ml-100k", f"name its folder, {path.parent}")
    kinds = f"a table ({', '.join(suffixes)}, also with .gz) nor a zip or folder of ml-100k"
    raise MalformedData(f"{path} is neither {kinds}", "convert it into one of these")


def _require_no_columns(section: DataSection, split: SplitSection | None) -> None:
    given = [key for key, value in section.model_dump(exclude_none=True).items() if key in _TABLE_KEYS and value]
    if split and split.column:
        given.append("the column of [split]")
    if given:
        raise MalformedData(f"{section.source} has fixed columns", f"remove {given[0]}")


def _clean(interactions: Interactions, section: DataSection) -> Interactions:
    """Clean a table as the study file asks; without such settings it stays exactly as it was read."""
    report = replace(interactions.report, feedback=section.feedback or "explicit", rows=len(interactions.rows))
    if section.feedback in (None, "explicit") and section.rating_range is None and section.duplicates == "keep":
        return replace(interactions, report=report)
    from mtsearch.data.cleaning import clean, to_raw

    cleaned = clean(to_raw(interactions), section, report)
    if interactions.catalogue is not None:
        cleaned = cleaned.with_catalogue(interactions.item_ids[interactions.catalogue])
    logger.info("data: %s rows left; %s", f"{len(cleaned.rows):,}", cleaned.report)
    return cleaned


def source_names() -> list[str]:
    """Return the names of all sources that need no file."""
    from mtsearch.data.movielens import EDITIONS
    from mtsearch.data.synthetic import SIZES

    return [*EDITIONS, *SIZES]


def _require_path(source: str) -> Path:
    try:
        path = Path(source).expanduser()
        if path.exists():
            return path
    except (OSError, RuntimeError):
        pass  # a name that is too long, or an unknown home folder, counts as a missing file
    names = source_names()
    near = difflib.get_close_matches(source, names, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    raise SourceUnavailable(
        f"{source!r} is neither a data source nor a file",
        f"{guess}name one of {', '.join(names)}, or the path of a table or of an ml-100k folder or zip",
    )

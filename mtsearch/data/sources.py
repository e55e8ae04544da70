"""The one entry to the data: a name or a path becomes the canonical table."""

import difflib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mtsearch.data import cache, local, recbole, tfds
from mtsearch.data.interactions import Interactions
from mtsearch.data.synthetic import SIZES, synthetic
from mtsearch.data.tfds import EDITIONS, Edition
from mtsearch.errors import MalformedData, SourceUnavailable

if TYPE_CHECKING:
    from mtsearch.definition import DataSection, SplitSection

logger = logging.getLogger("mtsearch")

NAMES = (*EDITIONS, *SIZES)
_OF_TABLES = ("columns", "items", "item_columns")
_ZIP = b"PK"
_MEMBERS = ("u.data", "u.item")


def load(section: "DataSection", split: "SplitSection | None" = None) -> Interactions:
    """The ratings that a definition names, in canonical form; the log says where they came from and what was dropped.

    Args:
        section: `source` is one of `NAMES`, or the path of an ml-100k folder or zip, or of a table.
        split: how the rows are divided, by a column of the table or by times; None where it is not known.

    Raises:
        SourceUnavailable: no such name or path, or out of reach.
        MalformedData: a file does not say what it should.
    """
    edition = EDITIONS.get(section.source)
    if edition:
        _require_no_columns(section, split)
        return _cleaned(movielens(edition), section)
    size = SIZES.get(section.source)
    if size:
        _require_no_columns(section, split)
        # NOTE: not cached: 25 million rows are made in 10 s; kept, they take a seventh, and 480 MiB.
        interactions = synthetic(*size)
        logger.info("data: %s synthetic rows", f"{len(interactions.rows):,}")
        return _cleaned(interactions, section)
    path = _existing(section.source)

    from mtsearch.data import tables  # Arrow takes 0.1 s to import
    from mtsearch.data.table_files import SUFFIXES, is_table

    # NOTE: local files are not cached: 100,000 rows parse in 0.2 s, and a cache would have to notice every edit.
    if not is_table(path) or (path / "u.data").exists():
        _require_folder_or_zip(path, SUFFIXES)
        _require_no_columns(section, split)
        logger.info("data: ml-100k files from %s", path)
        return _cleaned(local.read(path), section)
    interactions = tables.read(path, section, split)
    logger.info("data: %s rows from %s; %s", f"{len(interactions.rows):,}", path, interactions.reading)
    ratings = interactions.rows.ratings
    if ratings.min() == ratings.max():
        logger.warning(
            "data: every rating is %g, so that rmse and mae tell nothing of taste, and are 0 for the baselines; "
            "take two other [study] objectives, such as top_100 and mrr",
            ratings[0],
        )
    return interactions


def _require_folder_or_zip(path: Path, suffixes: Sequence[str]) -> None:
    """A damaged zip is one too, and what cannot be opened may be: of these the reader of ml-100k says more.

    Raises:
        MalformedData: a file of another kind.
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
    kinds = f"a table ({', '.join(suffixes)}, .gz behind it or not) nor a zip or folder of ml-100k"
    raise MalformedData(f"{path} is neither {kinds}", "write it as one of these")


def _require_no_columns(section: "DataSection", split: "SplitSection | None") -> None:
    given = [key for key, value in section.model_dump(exclude_none=True).items() if key in _OF_TABLES and value]
    if split and split.column:
        given.append("the column of [split]")
    if given:
        raise MalformedData(f"{section.source} has columns of its own", f"leave out {given[0]}")


def _cleaned(interactions: Interactions, section: "DataSection") -> Interactions:
    """As the section says; untouched, and so exactly as it was read, where it says nothing."""
    reading = replace(interactions.reading, feedback=section.feedback or "explicit", rows=len(interactions.rows))
    if section.feedback in (None, "explicit") and section.rating_range is None and section.duplicates == "keep":
        return replace(interactions, reading=reading)
    from mtsearch.data.cleaning import as_raw, clean

    cleaned = clean(as_raw(interactions), section, reading)
    if interactions.catalogue is not None:
        cleaned = cleaned.listing(interactions.item_ids[interactions.catalogue])
    logger.info("data: %s rows left; %s", f"{len(cleaned.rows):,}", cleaned.reading)
    return cleaned


def movielens(edition: Edition) -> Interactions:
    """An edition of MovieLens, from the cache, else from TensorFlow Datasets, else (100K) from the package index.

    Raises:
        SourceUnavailable: none of them has it.
    """
    path = cache.file_of(edition.source)
    interactions = cache.read(path, edition.source)
    if interactions:
        logger.info("data: %s from the cache %s", edition.title, path)
        return interactions
    interactions, origin = _fetched(edition)
    logger.info("data: %s from %s", edition.title, origin)
    cache.keep(path, edition.source, interactions)
    return interactions


def _fetched(edition: Edition) -> tuple[Interactions, str]:
    try:
        return tfds.read(edition), "TensorFlow Datasets"
    except SourceUnavailable as error:
        reason = error.problem
    if edition.size != "100k":
        raise SourceUnavailable(
            f"{edition.title} cannot be had: {reason}",
            "set HTTPS_PROXY if a proxy is needed, or TFDS_DATA_DIR to a folder where it is prepared already, "
            "or take --set data.source=movielens/100k",
        )
    try:
        return recbole.read(), f"the RecBole wheel of the package index ({reason})"
    except SourceUnavailable as error:
        raise SourceUnavailable(
            f"{edition.title} cannot be had: {reason}; {error.problem}",
            "set HTTPS_PROXY if a proxy is needed, or the index of pip or uv, "
            "or download ml-100k.zip elsewhere and take --set data.source=path/to/ml-100k.zip",
        ) from error


def _existing(source: str) -> Path:
    near = difflib.get_close_matches(source, NAMES, n=1)
    try:
        path = Path(source).expanduser()
        if path.exists():
            return path
    except (OSError, RuntimeError):
        pass  # too long a name, or a home of nobody: not there, like any other
    guess = f"did you mean {near[0]}? " if near else ""
    raise SourceUnavailable(
        f"no data source and no file {source!r}",
        f"{guess}name one of {', '.join(NAMES)}, or the path of a table or of an ml-100k folder or zip",
    )

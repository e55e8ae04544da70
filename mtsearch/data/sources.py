"""The one entry to the data: a name or a path becomes the canonical table."""

import difflib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mtsearch.data import cache, local, recbole, tfds
from mtsearch.data.interactions import Interactions
from mtsearch.data.tfds import EDITIONS, Edition
from mtsearch.errors import SourceUnavailable

if TYPE_CHECKING:
    from mtsearch.definition import DataSection

logger = logging.getLogger("mtsearch")


def load(section: "DataSection") -> Interactions:
    """The ratings that a definition names, in canonical form; the log says where they came from.

    Args:
        section: `source` is `movielens/100k`, `/1m`, `/20m` or `/25m`, or the path of an ml-100k folder or zip.

    Raises:
        SourceUnavailable: no such name or path, or out of reach.
        MalformedData: a file does not say what it should.
    """
    edition = EDITIONS.get(section.source)
    if edition:
        return movielens(edition)
    path = _existing(section.source)
    # NOTE: local files are not cached: 100,000 rows parse in 0.2 s, and a cache would have to notice every edit.
    interactions = local.read(path)
    logger.info("data: ml-100k files from %s", path)
    return interactions


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
    near = difflib.get_close_matches(source, EDITIONS, n=1)
    try:
        path = Path(source).expanduser()
        if path.exists():
            return path
    except (OSError, RuntimeError):
        pass  # too long a name, or a home of nobody: not there, like any other
    guess = f"did you mean {near[0]}? " if near else ""
    raise SourceUnavailable(
        f"no data source and no file {source!r}",
        f"{guess}name one of {', '.join(EDITIONS)}, or the path of an ml-100k folder or zip",
    )

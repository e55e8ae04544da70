"""Load the ratings of a named source or a path as the canonical table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mtsearch.data.interactions import Interactions
from mtsearch.errors import MalformedData

if TYPE_CHECKING:
    from mtsearch.data.synthetic import Size
    from mtsearch.study_file.sections import DataSection, SplitSection
    from mtsearch.study_file.tasks import TaskSection

logger = logging.getLogger("mtsearch")

_TABLE_KEYS = ("columns", "items", "item_columns", "where", "reader")


def load(
    section: DataSection, split: SplitSection | None = None, tasks: Mapping[str, TaskSection] | None = None
) -> Interactions:
    """Load the ratings of a study file as the canonical table; the log tells their source and the dropped rows.

    Args:
        section: `source` is one of `source_names`, or the path of a table, or of a folder or zip.
        split: how the rows are divided, by a column of the table or by times; None if it is not known.
        tasks: of the study file; none for the tutorial's two.

    Raises:
        SourceUnavailable: the name or path does not exist, or cannot be reached.
        MalformedData: a file has wrong content.
    """
    named = section.source if isinstance(section.source, str) and not section.query else ""
    if named.startswith("movielens/"):
        from mtsearch.data.movielens import EDITIONS, load_movielens

        if edition := EDITIONS.get(named):
            _require_no_columns(section, split)
            return _clean(load_movielens(edition), section, split, tasks)
    if named.startswith("synthetic/shop-"):
        from mtsearch.data.shop import SHOPS

        if size := SHOPS.get(named):
            return _read_shop(size, section, split, tasks)
    elif named.startswith("synthetic/"):
        from mtsearch.data.synthetic import SIZES, make_synthetic

        if size := SIZES.get(named):
            _require_no_columns(section, split)
            # NOTE: not cached: 25 million rows are made in 10 s. Reading them from a cache would take a seventh of
            # that, and 480 MiB of disk.
            interactions = make_synthetic(*size)
            logger.info("data: %s synthetic rows", f"{len(interactions.rows):,}")
            return _clean(interactions, section, split, tasks)
    from mtsearch.data.sources import open_source  # DuckDB and Arrow take 0.1 s to import
    from mtsearch.data.tables import read_tables

    # NOTE: local files are not cached: 100,000 rows parse in 0.2 s, and a cache would have to notice every edit.
    interactions = read_tables(open_source(section), section, split, tasks)
    logger.info("data: %s rows from %s; %s", f"{len(interactions.rows):,}", section.origin, interactions.report)
    ratings = interactions.rows.ratings
    if not tasks and np.nanmin(ratings) == np.nanmax(ratings):
        logger.warning(
            "data: every rating is %g, so rmse and mae cannot tell good models from bad ones; "
            "choose other [study] objectives, such as top_100 and mrr",
            np.nanmin(ratings),
        )
    return interactions


def _read_shop(
    size: Size, section: DataSection, split: SplitSection | None, tasks: Mapping[str, TaskSection] | None
) -> Interactions:
    """Make the events of a shop, and read them as a user's table."""
    from mtsearch.data.shop import catalogue, make_shop
    from mtsearch.data.sources import Source
    from mtsearch.data.tables import read_tables
    from mtsearch.tables.open import open_rows

    _require_defaults(section, ("items", "item_columns", "reader"), "is no file")
    read = read_tables(Source([open_rows(make_shop(*size), section.origin)]), section, split, tasks)
    logger.info("data: %s events of a made-up shop; %s", f"{len(read.rows):,}", read.report)
    return read.with_catalogue(catalogue(size.items))


def _require_defaults(section: DataSection, keys: Sequence[str], reason: str, *others: str) -> None:
    from mtsearch.study_file.sections import DataSection

    given = [key for key in keys if getattr(section, key) != DataSection.model_fields[key].default]
    if given := [*given, *others]:
        raise MalformedData(f"{section.origin} {reason}", f"remove {given[0]}")


def _require_no_columns(section: DataSection, split: SplitSection | None) -> None:
    others = ["the column of [split]"] if split and split.column else []
    _require_defaults(section, _TABLE_KEYS, "has fixed columns", *others)


def _clean(
    interactions: Interactions,
    section: DataSection,
    split: SplitSection | None,
    tasks: Mapping[str, TaskSection] | None,
) -> Interactions:
    """Clean a table as the study file asks; without such settings it stays exactly as it was read."""
    if tasks:
        return _read_tasks(interactions, section, split, tasks)
    report = replace(interactions.report, feedback=section.feedback or "explicit", rows=len(interactions.rows))
    if section.feedback in (None, "explicit") and section.rating_range is None and section.duplicates == "keep":
        return replace(interactions, report=report)
    from mtsearch.data.cleaning import clean, to_raw

    cleaned = clean(to_raw(interactions), section, report)
    if interactions.catalogue is not None:
        cleaned = cleaned.with_catalogue(interactions.item_ids[interactions.catalogue])
    logger.info("data: %s rows left; %s", f"{len(cleaned.rows):,}", cleaned.report)
    return cleaned


def _read_tasks(
    interactions: Interactions, section: DataSection, split: SplitSection | None, tasks: Mapping[str, TaskSection]
) -> Interactions:
    """Read a made or downloaded table again, as a user's table whose columns are user, item, rating and timestamp."""
    import pyarrow as pa

    from mtsearch.data.sources import Source
    from mtsearch.data.tables import read_tables
    from mtsearch.tables.open import open_rows

    rows = interactions.rows
    columns = {"user": interactions.user_ids[rows.users], "item": interactions.item_ids[rows.items]}
    table = pa.table({**columns, "rating": rows.ratings, "timestamp": rows.timestamps})
    read = read_tables(Source([open_rows(table, section.origin)]), section, split, tasks)
    logger.info("data: %s", read.report)
    if interactions.catalogue is None:
        return read
    ids = interactions.item_ids[interactions.catalogue]
    return read.with_catalogue(
        ids, None if interactions.titles is None else interactions.titles[interactions.catalogue]
    )


def source_names() -> list[str]:
    """Return the names of all sources that need no file."""
    from mtsearch.data.movielens import EDITIONS
    from mtsearch.data.shop import SHOPS
    from mtsearch.data.synthetic import SIZES

    return [*EDITIONS, *SIZES, *SHOPS]

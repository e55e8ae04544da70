"""Load the ratings of a named source or a path as the canonical table."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from mtsearch.data.interactions import Interactions
from mtsearch.errors import MalformedData

if TYPE_CHECKING:
    from mtsearch.study_file.sections import DataSection, SplitSection

logger = logging.getLogger("mtsearch")

_TABLE_KEYS = ("columns", "items", "item_columns", "where", "reader")


def load(section: DataSection, split: SplitSection | None = None) -> Interactions:
    """Load the ratings of a study file as the canonical table; the log tells their source and the dropped rows.

    Args:
        section: `source` is one of `source_names`, or the path of a table, or of a folder or zip.
        split: how the rows are divided, by a column of the table or by times; None if it is not known.

    Raises:
        SourceUnavailable: the name or path does not exist, or cannot be reached.
        MalformedData: a file has wrong content.
    """
    named = section.source if isinstance(section.source, str) and not section.query else ""
    if named.startswith("movielens/"):
        from mtsearch.data.movielens import EDITIONS, load_movielens

        if edition := EDITIONS.get(named):
            _require_no_columns(section, split)
            return _clean(load_movielens(edition), section)
    if named.startswith("synthetic/"):
        from mtsearch.data.synthetic import SIZES, make_synthetic

        if size := SIZES.get(named):
            _require_no_columns(section, split)
            # NOTE: not cached: 25 million rows are made in 10 s. Reading them from a cache would take a seventh of
            # that, and 480 MiB of disk.
            interactions = make_synthetic(*size)
            logger.info("data: %s synthetic rows", f"{len(interactions.rows):,}")
            return _clean(interactions, section)
    from mtsearch.data.sources import open_source  # DuckDB and Arrow take 0.1 s to import
    from mtsearch.data.tables import read_tables

    # NOTE: local files are not cached: 100,000 rows parse in 0.2 s, and a cache would have to notice every edit.
    interactions = read_tables(open_source(section), section, split)
    logger.info("data: %s rows from %s; %s", f"{len(interactions.rows):,}", section.origin, interactions.report)
    ratings = interactions.rows.ratings
    if ratings.min() == ratings.max():
        logger.warning(
            "data: every rating is %g, so rmse and mae cannot tell good models from bad ones; "
            "choose other [study] objectives, such as top_100 and mrr",
            ratings[0],
        )
    return interactions


def _require_no_columns(section: DataSection, split: SplitSection | None) -> None:
    from mtsearch.study_file.sections import DataSection

    given = [key for key in _TABLE_KEYS if getattr(section, key) != DataSection.model_fields[key].default]
    if split and split.column:
        given.append("the column of [split]")
    if given:
        raise MalformedData(f"{section.origin} has fixed columns", f"remove {given[0]}")


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

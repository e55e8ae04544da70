"""The ratings: from a source to a canonical table, and from there to a split."""

from mtsearch.data.interactions import Interactions, Rows
from mtsearch.data.sources import load
from mtsearch.data.split import Split, make_split, undivided

__all__ = ["Interactions", "Rows", "Split", "load", "make_split", "undivided"]

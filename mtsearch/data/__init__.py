"""Load ratings from a source into the canonical table, and split them to train, validate and test."""

from mtsearch.data.interactions import Interactions, Rows
from mtsearch.data.load import load
from mtsearch.data.split import Split, make_split, undivided

__all__ = ["Interactions", "Rows", "Split", "load", "make_split", "undivided"]

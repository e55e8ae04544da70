"""How a source was understood, and what became of its rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reading:
    """What `mtsearch data` tells of a source beside its numbers.

    Attributes:
        columns: what a column is for, and its name in the file; empty where the source has a form of its own.
        ignored: names of the other columns.
        feedback: what a row says: explicit, binary or count.
        time_unit: of the timestamps in the file; empty where it has none.
        rows: in the source.
        counts: what was wrong with how many rows and what was done to them, in words; no zeros.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    feedback: str = "explicit"
    time_unit: str = "seconds since 1970"
    rows: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """In one line."""
        told = [f"{name} = {column!r}" for name, column in self.columns.items()]
        if self.feedback != "explicit":
            told.append(f"{self.feedback} feedback")
        return ", ".join([*told, *(f"{count:,} {what}" for what, count in self.counts.items())])

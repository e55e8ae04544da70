"""A study's record as notebooks show it."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from mtsearch.report.front_html import front_html
from mtsearch.report.markup import tag
from mtsearch.report.references import verdict
from mtsearch.report.wording import count, number, plain, states
from mtsearch.search.record import StudyRecord

if TYPE_CHECKING:
    import plotly.graph_objects as go


class ShownStudy(StudyRecord):
    """A `StudyRecord` that a notebook shows by itself: state, hypervolume, and the front beside the baselines.

    NOTE: a subclass, so that `search` need not know how its records look. The cell holds a table and no figure, which
    would carry the 4.8 MB of plotly.js into each.
    """

    def figure(self) -> go.Figure:
        """The Pareto front among all trials, for Plotly to show (in a notebook as the last line of a cell)."""
        from mtsearch.report.figures import front_figure  # Plotly takes 0.3 s to import

        return front_figure(self)

    def __repr__(self) -> str:
        trials = count(self.counting, "trial")
        return f"<study {plain(self.name)}: {trials}, {self._front()}{self._hypervolume()}>"

    def _repr_html_(self) -> str:
        state = f": {states(self.states) or 'no trials'}, {self._hypervolume()}"
        about = tag("p", tag("strong", plain(self.name)), state)
        return tag("div", about, tag("p", verdict(self)), front_html(self))

    def _front(self) -> str:
        if len(self.objectives) > 1:
            return f"{len(self.front)} on the front, "
        return f"best {self.objectives[0].label} {number(self.front[0].values[0])}, " if self.front else ""

    def _hypervolume(self) -> str:
        return f"hypervolume {number(self.hypervolume)}"


def shown(record: StudyRecord) -> ShownStudy:
    """The same record, for people who sit before a notebook."""
    return ShownStudy(**{field.name: getattr(record, field.name) for field in fields(record)})

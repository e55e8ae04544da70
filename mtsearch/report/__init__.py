"""Presentation of a study: tables, plots, pages, the content of optuna-dashboard, and `Study` for notebooks.

    tables (the front and the baselines) ─► html (elements, the front as HTML, documents)
    plot_data, front_plot (data of the plots) ─► front_plot, plots (figures of Plotly, in plot_style)
    test_report (the front on test, as data, words and tables)
    all of these ─► page, dashboard, comparison

Tables need no Plotly, which takes 0.3 s to import.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from mtsearch.search.results import StudyResults
from mtsearch.text import count, number, plain, states

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Study(StudyResults):
    """Results of a study that a notebook displays: state, hypervolume, and the front with the baselines.

    NOTE: this is a subclass, so that `search` need not know how results are displayed. A cell shows a table and no
    figure, because each figure would carry the 4.8 MB of plotly.js.
    """

    def figure(self) -> go.Figure:
        """Draw the Pareto front among all trials as a Plotly figure, which a notebook displays."""
        from mtsearch.report.front_plot import front_figure

        return front_figure(self)

    def __repr__(self) -> str:
        trials = count(self.counting, "trial")
        return f"<study {plain(self.name)}: {trials}, {self._front()}{self._hypervolume()}>"

    def _repr_html_(self) -> str:
        from mtsearch.report.html import front_html, tag
        from mtsearch.report.tables import verdict

        state = f": {states(self.states) or 'no trials'}, {self._hypervolume()}"
        about = tag("p", tag("strong", plain(self.name)), state)
        return tag("div", about, tag("p", verdict(self)), front_html(self))

    def _front(self) -> str:
        if len(self.objectives) > 1:
            return f"{len(self.front)} on the front, "
        return f"best {self.objectives[0].label} {number(self.front[0].values[0])}, " if self.front else ""

    def _hypervolume(self) -> str:
        return f"hypervolume {number(self.hypervolume)}"


def as_study(results: StudyResults) -> Study:
    """Return the same results as a `Study`."""
    return Study(**{field.name: getattr(results, field.name) for field in fields(results)})

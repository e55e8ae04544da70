"""What a study looks like: tables, the Pareto front as a figure, and the page; only `figures` imports Plotly.

wording (words and numbers) ─► references (best baselines) ─► front_view (what is drawn) ─► figures ─┐
                                              └─► tables ─────────────────────► markup (HTML) ─────► page
"""

"""What a study looks like: tables, figures, pages, and what optuna-dashboard is given.

    wording (words and numbers) ─► references (best baselines) ─► tables ─► front_html (markup: HTML as values)
    front_view, parameters_view, progress (what is drawn, as data) ─► figures, graphs (drawn with Plotly)
    on_test (the front on test, as data) ─► on_test_verdict ─► on_test_view
    figures, graphs, front_html, on_test_view ─► page_plots, page_data ─► page, notebook, picture, dashboard
    comparison (several studies, as data) ─► comparison_table, comparison_page

Tables need no Plotly, which takes 0.3 s to import.
"""

"""The search of a study's trials: begin, run, resume and read studies; the only package that imports Optuna."""

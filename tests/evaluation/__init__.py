"""Tests of the metrics on held-out rows and of the baselines."""

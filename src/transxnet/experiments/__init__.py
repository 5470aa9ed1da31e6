"""Experiments of many runs: their folder, and training its runs."""

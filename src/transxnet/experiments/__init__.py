"""Experiments of many runs: their folder, and training its runs one after another."""

"""Benchmarks of the package. Commands and results are in README.md."""

"""The command line: each command parses its arguments and calls the function of the same name."""

from transxnet.cli.entry import main

__all__ = ["main"]

"""Signatures and constants read from source files."""

import inspect
import subprocess
import sys
from typing import Literal

import pytest

from transxnet.cli.command import load
from transxnet.cli.command_table import COMMANDS
from transxnet.cli.source_signature import read_signature, read_value

OPTIONS = [
    pytest.param(group.source or command.function, group.names, id=f"{command.name} {group.title or ''}".strip())
    for command in COMMANDS.values()
    for group in command.options
]


@pytest.mark.parametrize(("path", "names"), OPTIONS)
def test_signature_is_that_of_the_imported_function(path, names):
    read, imported = read_signature(path, names), load(path)
    assert read.__doc__ == imported.__doc__
    expected = [parameter for parameter in inspect.signature(imported).parameters.values() if parameter.name in names]
    found = list(inspect.signature(read).parameters.values())
    assert [(p.name, p.default, p.annotation) for p in found] == [(p.name, p.default, p.annotation) for p in expected]


def test_constants_are_read_through_imports():
    assert read_value("transxnet.benchmark.bench:Mode") == Literal["infer", "train"]
    assert read_value("transxnet.benchmark.settings:COMPILE_MODES")[0] == "default"


def test_missing_names_are_errors():
    with pytest.raises(LookupError, match=r"transxnet\.version does not define nothing"):
        read_value("transxnet.version:nothing")


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["train", "--lerning-rate", "1"], *([name, "--help"] for name in COMMANDS)],
    ids=" ".join,
)  # fmt: skip
def test_help_and_misspelt_options_do_not_import_torch(words):
    code = f"""
import sys
from transxnet.cli import main
try:
    main({words!r})
except SystemExit:
    pass
assert not {{"torch", "timm", "lightning", "numpy"}} & set(sys.modules), set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

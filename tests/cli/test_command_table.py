import inspect
import subprocess
import sys

import pytest

import transxnet
from transxnet.ablation.paper_tables import TABLES
from transxnet.benchmark.settings import NAMED_SETTINGS
from transxnet.cli.command import load
from transxnet.cli.command_table import COMMANDS


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("doctor", "layouts", "completion")])
def test_command_calls_the_function_of_its_name(name):
    assert load(COMMANDS[name].function) is getattr(transxnet, name)


@pytest.mark.parametrize("name", ["eval", "predict", "export", "bench", "erf", "explain", "dynamics", "doctor"])
def test_command_has_all_parameters_of_its_function(name):
    command = COMMANDS[name]
    arguments = {argument.removeprefix("--") for argument in command.arguments}
    arguments |= {option for group in command.options for option in group.names}
    function = inspect.signature(load(command.function)).parameters
    assert arguments == function.keys() - {"console"} | ({"data"} if name == "erf" else set())


def test_help_lists_the_tables_and_the_settings():
    assert ", ".join(TABLES) in COMMANDS["ablate"].arguments["table"]["help"]
    assert f"{', '.join(NAMED_SETTINGS)}, compile=MODE" in COMMANDS["bench"].arguments["models"]["help"]


LIGHT_IMPORTS = """
import re, sys
import transxnet

before = {*sys.modules}
import transxnet.cli.command_table
added = {m for m in {*sys.modules} - before if m.startswith("transxnet") and ".cli" not in m}
assert added == {"transxnet.utils.library_messages"}, added
import transxnet.reports
assert "lightning" not in sys.modules, "the reports import lightning"

from importlib import import_module
from importlib.metadata import packages_distributions, requires
import lightning.pytorch, timm, torchvision  # which import what they find

def names(extra):
    found = [each for each in requires("transxnet") if ("extra ==" in each) == extra]
    return {re.match(r"[\\w.-]+", each)[0].lower().replace("_", "-") for each in found}

optional = names(extra=True) - names(extra=False)
modules = {module for module, owners in packages_distributions().items() if optional & {o.lower() for o in owners}}
assert {"lightly", "onnx", "gradio"} <= modules
sys.modules.update(dict.fromkeys(modules - sys.modules.keys()))  # as if they were not installed
for command in transxnet.cli.command_table.COMMANDS.values():
    import_module(command.function.split(":")[0])
"""


def test_table_imports_no_command_and_commands_need_no_extras():
    result = subprocess.run([sys.executable, "-c", LIGHT_IMPORTS], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

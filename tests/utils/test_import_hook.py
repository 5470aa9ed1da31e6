"""Importing a module as soon as another is imported."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "code",
    ["import timm, transxnet", "import transxnet, timm", "from transxnet import TransXNet; import timm"],
)
def test_models_are_registered_in_any_order_of_imports(code):
    check = f"{code}; assert 'transxnet_t' in timm.list_models(), timm.list_models('transx*')"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_second_module_is_imported_after_the_first(tmp_path, monkeypatch):
    (tmp_path / "first_one.py").write_text("order = ['first']\n")
    (tmp_path / "second_one.py").write_text("import first_one\nfirst_one.order.append('second')\n")
    code = """
from transxnet.utils.import_hook import import_after
import_after("first_one", "second_one")
import sys
assert "first_one" not in sys.modules and "second_one" not in sys.modules
import first_one
assert first_one.order == ["first", "second"]
import_after("first_one", "second_one")
assert first_one.order == ["first", "second"]
"""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    subprocess.run([sys.executable, "-c", code], check=True)

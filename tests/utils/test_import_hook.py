"""Importing a module as soon as another is imported."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import timm, transxnet", marks=pytest.mark.long),
        "import transxnet, timm",
        pytest.param("from transxnet import TransXNet; import timm", marks=pytest.mark.long),
        # Its modules import timm, and the models need it.
        pytest.param("from transxnet.layers import DMixer; import timm", marks=pytest.mark.long),
        pytest.param("from transxnet.ops import biased_attention; import timm", marks=pytest.mark.long),
        pytest.param("from transxnet.heads import RetinaNet; import timm", marks=pytest.mark.long),
        pytest.param("from transxnet.analysis.cost import info; import timm", marks=pytest.mark.long),
        pytest.param("from transxnet.runs.load import load_model; import timm", marks=pytest.mark.long),
        pytest.param("from transxnet.data.open_data import open_data; import timm", marks=pytest.mark.long),
    ],
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


def test_module_that_the_second_needs_is_complete_first(tmp_path, monkeypatch):
    (tmp_path / "first_one.py").write_text("")
    package = tmp_path / "package_one"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from transxnet.utils.import_hook import import_after\nimport_after('first_one', 'package_one.second')\n"
    )
    (package / "part.py").write_text("import first_one\nvalue = 1\n")
    (package / "second.py").write_text("from package_one.part import value\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    code = "import package_one.part, sys; assert 'package_one.second' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_failed_import_leaves_the_hook_in_place(tmp_path, monkeypatch):
    (tmp_path / "first_one.py").write_text("import os\nif 'FAIL' in os.environ: raise ValueError\n")
    (tmp_path / "second_one.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.setenv("FAIL", "1")
    code = """
import os, sys
from transxnet.utils.import_hook import import_after
import_after("first_one", "second_one")
try:
    import first_one
except ValueError:
    pass
assert "second_one" not in sys.modules
del os.environ["FAIL"]
import first_one
assert "second_one" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)

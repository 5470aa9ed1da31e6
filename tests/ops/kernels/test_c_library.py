"""Building and loading the C kernels, and machines where that is impossible."""

import subprocess
import sys

import pytest

from transxnet.ops.kernels import c_library
from transxnet.ops.kernels.c_library import load_library, why_unavailable


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Load nothing that was loaded before, and build into an empty folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    c_library._load.cache_clear()
    yield tmp_path / "transxnet"
    c_library._load.cache_clear()


@pytest.mark.skipif(bool(why_unavailable()), reason="needs a C compiler")
def test_library_is_built_once_and_kept(fresh, monkeypatch):
    assert load_library() is not None
    (built,) = fresh.iterdir()
    assert built.suffix == ".so"
    c_library._load.cache_clear()
    monkeypatch.setattr(c_library, "_build", lambda *_: pytest.fail("it is built already"))
    assert load_library() is not None


def test_machine_without_compiler_has_no_library(fresh, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert load_library() is None
    assert "no C compiler" in why_unavailable()


def test_failing_compiler_is_named_with_its_message(fresh, monkeypatch, tmp_path):
    compiler = tmp_path / "badcc"
    compiler.write_text(
        f"#!{sys.executable}\nimport sys\nif '--version' not in sys.argv: sys.exit('cannot find stdint.h')\n"
    )
    compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    assert load_library() is None
    assert "badcc cannot build its C kernel: cannot find stdint.h" in why_unavailable()
    assert list(fresh.iterdir()) == []


def test_cache_folder_that_cannot_be_written_is_named(fresh, monkeypatch, tmp_path):
    fresh.write_text("a file")
    assert load_library() is None
    assert "cannot be built or loaded" in why_unavailable()


def test_user_without_home_folder_has_no_library(fresh, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(c_library.Path, "home", no_home)
    assert load_library() is None
    assert "home directory" in why_unavailable()


@pytest.mark.long
def test_network_works_without_library(monkeypatch):
    code = (
        "import torch, transxnet, timm; from transxnet.ops.kernels.c_library import load_library;"
        "assert load_library() is None; torch.manual_seed(0);"
        "timm.create_model('transxnet_n')(torch.randn(2, 3, 32, 32)).sum().backward()"
    )
    monkeypatch.setenv("CC", "/nowhere/cc")
    monkeypatch.setenv("TRANSXNET_OPS", "auto")
    subprocess.run([sys.executable, "-c", code], check=True)

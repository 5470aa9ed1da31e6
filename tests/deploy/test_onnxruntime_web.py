"""ONNX Runtime Web from npm; a small program takes npm's place."""

import io
import os

import pytest
from rich.console import Console

from tests.helpers.runtime_package import use_package, write_package
from transxnet.deploy.onnxruntime_web import LICENSES, RUNTIMES, VERSION, fetch_package, package_file, write_runtimes
from transxnet.utils.errors import UserError


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """An npm that has a small package, and an empty cache; returns the path of the package."""
    package = write_package(tmp_path / "package.tgz")
    use_package(package, monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    program = tmp_path / "bin/npm"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
[ "$1 $2" = "pack onnxruntime-web@{VERSION}" ] || exit 3
[ -f {package} ] || {{ echo "npm error 404 Not Found" >&2; exit 1; }}
for folder; do :; done
cp {package} "$folder/onnxruntime-web-{VERSION}.tgz"
"""
    )
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return package


def test_package_is_downloaded_once(npm, console):
    fetch_package(console)
    assert package_file().read_bytes() == npm.read_bytes()
    assert f"downloading onnxruntime-web {VERSION} with npm" in console.file.getvalue()
    npm.unlink()
    quiet = Console(file=io.StringIO())
    fetch_package(quiet)
    assert quiet.file.getvalue() == ""


def test_damaged_package_in_the_cache_is_downloaded_again(npm, console):
    fetch_package(console)
    content = package_file().read_bytes()
    package_file().write_bytes(content[:-1])
    fetch_package(console)
    assert package_file().read_bytes() == content


def test_other_package_is_refused(npm, console):
    npm.write_bytes(npm.read_bytes() + b"more")
    with pytest.raises(UserError, match=rf"another onnxruntime-web {VERSION}: the SHA-512 differs.* save its package"):
        fetch_package(console)
    assert not package_file().exists()
    assert not list(package_file().parent.iterdir())


def test_missing_package_is_an_error_with_the_next_step(npm, console):
    npm.unlink()
    with pytest.raises(UserError) as error:
        fetch_package(console)
    assert f"npm cannot download onnxruntime-web {VERSION}: 404 Not Found. " in str(error.value)
    assert f"save its package from npm as {package_file()}" in str(error.value)


def test_missing_npm_is_an_error_with_the_next_step(npm, console, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"is not installed\. Install Node\.js, or save its package") as error:
        fetch_package(console)
    assert str(package_file()) in str(error.value)


def test_runtimes_are_written_with_their_licenses(npm, tmp_path, console):
    fetch_package(console)
    write_runtimes(tmp_path / "page")
    names = {name for runtime in RUNTIMES for name in runtime.files}
    assert {file.name for file in (tmp_path / "page").iterdir()} == names | set(LICENSES)
    assert "Permission is hereby granted" in (tmp_path / "page" / "LICENSE").read_text()
    assert (tmp_path / "page" / "ort.wasm.bundle.min.js").read_text() == "// ort.wasm.bundle.min.mjs"

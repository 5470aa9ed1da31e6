"""ONNX Runtime Web from a registry on loopback."""

import io

import pytest
from rich.console import Console

from tests.helpers.browser import serve_folder
from tests.helpers.runtime_package import use_package, write_package
from transxnet.deploy.onnxruntime_web import LICENSES, RUNTIMES, VERSION, fetch_package, package_file, write_runtimes
from transxnet.utils.errors import UserError


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry with a small package, and an empty cache; yields its URL."""
    package = write_package(tmp_path / f"registry/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz")
    use_package(package, monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serve_folder(tmp_path / "registry") as url:
        monkeypatch.setenv("npm_config_registry", url)
        yield url


def test_package_is_downloaded_once(registry, console, monkeypatch):
    path = fetch_package(console)
    assert path == package_file()
    assert f"downloading {registry}onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz" in console.file.getvalue()
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    quiet = Console(file=io.StringIO())
    assert fetch_package(quiet) == path
    assert quiet.file.getvalue() == ""


def test_damaged_package_in_the_cache_is_downloaded_again(registry, console):
    path = fetch_package(console)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert fetch_package(console).read_bytes() == content


def test_other_package_is_refused(registry, tmp_path, console):
    file = next((tmp_path / "registry").rglob("*.tgz"))
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(UserError, match=rf"is not onnxruntime-web {VERSION}: its SHA-512 differs .* save the package"):
        fetch_package(console)
    assert not package_file().exists()
    assert not list(package_file().parent.iterdir())


@pytest.mark.parametrize("name", ["npm_config_registry", "NPM_CONFIG_REGISTRY"])
def test_unreachable_registry_is_an_error_with_the_next_step(tmp_path, console, monkeypatch, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(UserError) as error:
        fetch_package(console)
    assert f"cannot download http://127.0.0.1:9/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz: " in str(error.value)
    assert f"Download it in another way and save it as {package_file()}" in str(error.value)


def test_missing_package_is_an_error(registry, tmp_path, console):
    next((tmp_path / "registry").rglob("*.tgz")).unlink()
    with pytest.raises(UserError, match=r"cannot download .*: File not found\. Download it"):
        fetch_package(console)


def test_runtimes_are_written_with_their_licenses(registry, tmp_path, console):
    fetch_package(console)
    write_runtimes(tmp_path / "page")
    names = {name for runtime in RUNTIMES for name in runtime.files}
    assert {file.name for file in (tmp_path / "page").iterdir()} == names | set(LICENSES)
    assert "Permission is hereby granted" in (tmp_path / "page" / "LICENSE").read_text()
    assert (tmp_path / "page" / "ort.wasm.bundle.min.js").read_text() == "// ort.wasm.bundle.min.mjs"

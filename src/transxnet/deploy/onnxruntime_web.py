"""ONNX Runtime Web, the npm package that runs models in browsers, with which web pages are exported."""

import base64
import hashlib
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from rich.console import Console

from transxnet.deploy.export_format import import_package
from transxnet.utils.errors import UserError
from transxnet.utils.files import WriteError, cache_folder, describe_write_error, write_atomic
from transxnet.utils.progress import PLAIN, progress_bar

VERSION = "1.30.0"

INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the package, as npm's registry lists it."""

REGISTRY = "https://registry.npmjs.org"

TIMEOUT = 60  # s, without a byte

FOLDER = "onnxruntime-web"
"""Name of its folder in a page."""


@dataclass(frozen=True)
class Runtime:
    """A build of ONNX Runtime Web.

    Attributes:
        name: name to show.
        provider: its execution provider.
        script: its JavaScript module in the package. Pages have it as .js, since some servers do not know .mjs.
        binary: its WebAssembly module.
    """

    name: str
    provider: str
    script: str
    binary: str

    @property
    def files(self) -> dict[str, str]:
        """Names in the package, by names in a page's folder."""
        return {self.script.replace(".mjs", ".js"): self.script, self.binary: self.binary}


RUNTIMES = (
    Runtime("WebGPU", "webgpu", "ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
    Runtime("WebAssembly", "wasm", "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"),
)
"""The builds in a page, in the order in which browsers try them; each downloads only the one that it uses."""

LICENSES = ("LICENSE", "ThirdPartyNotices.txt")
"""Taken from the Python package of the same project, since the npm package has none."""


def package_file() -> Path:
    """The package in the cache."""
    return cache_folder() / f"onnxruntime-web-{VERSION}.tgz"


def fetch_package(console: Console) -> Path:
    """Download the package, unless it is in the cache.

    As for npm, the environment variable ``npm_config_registry`` names another registry.

    Raises:
        UserError: the registry cannot be reached, or its package is a different one.
    """
    path = package_file()
    if path.is_file() and _has_integrity(path):
        return path
    registry = next((value for name, value in os.environ.items() if name.lower() == "npm_config_registry"), REGISTRY)
    url = f"{registry.rstrip('/')}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
    console.print(f"downloading {url}", **PLAIN)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(describe_write_error(path, error)) from error
    write_atomic(path, lambda temporary: _download(url, temporary, path, console))
    return path


def write_runtimes(folder: Path) -> None:
    """Write the files of all runtimes, and their licenses, from the package in the cache."""
    folder.mkdir()
    with tarfile.open(package_file()) as package:
        for runtime in RUNTIMES:
            for name, stored in runtime.files.items():
                source = package.extractfile(f"package/dist/{stored}")
                assert source is not None
                with source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    installed = Path(import_package("onnxruntime", "A web page").__file__).parent
    for name in LICENSES:
        shutil.copy(installed / name, folder / name)


def _download(url: str, temporary: Path, path: Path, console: Console) -> None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, temporary.open("wb") as file:
            total = int(response.headers.get("Content-Length") or 0)
            with progress_bar(console, "downloading", total or None) as advance:
                while part := response.read(1 << 20):
                    file.write(part)
                    advance(file.tell())
    except (HTTPException, ValueError, urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"cannot download {url}: {reason}. Download it in another way and save it as {path}, or set "
            "npm_config_registry to a registry that this machine reaches."
        ) from error
    if not _has_integrity(temporary):
        raise UserError(
            f"{url} is not onnxruntime-web {VERSION}: its SHA-512 differs from the one in npm's registry. Set "
            f"npm_config_registry to another registry, or save the package as {path}."
        )


def _has_integrity(path: Path) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").digest() == base64.b64decode(INTEGRITY)

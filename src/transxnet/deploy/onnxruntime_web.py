"""ONNX Runtime Web, the npm package that runs models in browsers, with which web pages are exported."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from transxnet.deploy.export_format import import_package
from transxnet.utils.errors import UserError
from transxnet.utils.files import WriteError, cache_folder, describe_write_error, write_atomic
from transxnet.utils.progress import PLAIN

VERSION = "1.30.0"

INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the package, as npm's registry lists it."""

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


def fetch_package(console: Console) -> None:
    """Download the package into the cache with npm, which knows the registry, unless it is there.

    Raises:
        UserError: npm is not installed or cannot download it, or its package is a different one.
    """
    path = package_file()
    if path.is_file() and _has_integrity(path):
        return
    npm, name = shutil.which("npm"), f"onnxruntime-web {VERSION}"
    save = f"save its package from npm as {path}"
    if npm is None:
        raise UserError(f"npm, which downloads {name}, is not installed. Install Node.js, or {save}.")
    console.print(f"downloading {name} with npm, 33 MB", **PLAIN)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(describe_write_error(path, error)) from error
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [npm, "pack", name.replace(" ", "@"), "--fetch-retries=1", "--pack-destination", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        packed = Path(folder) / path.name
        if done.returncode or not packed.is_file():
            reason = " ".join(line.removeprefix("npm error ") for line in done.stderr.splitlines())[:200].strip()
            raise UserError(f"npm cannot download {name}: {reason}. Set up its registry, or {save}.")
        if not _has_integrity(packed):
            raise UserError(f"npm's registry has another {name}: the SHA-512 differs. Use another, or {save}.")
        write_atomic(path, packed.replace)


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


def _has_integrity(path: Path) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").digest() == base64.b64decode(INTEGRITY)

"""A small package with the file names of ONNX Runtime Web, for tests that do not run it."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

from transxnet.deploy import onnxruntime_web
from transxnet.deploy.onnxruntime_web import RUNTIMES


def write_package(path: Path) -> Path:
    """Write the package as npm packs it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as package:
        for name in (name for runtime in RUNTIMES for name in runtime.files.values()):
            content = f"// {name}".encode()
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(content)
            package.addfile(entry, io.BytesIO(content))
    return path


def use_package(path: Path, monkeypatch) -> None:
    """Accept this package as ONNX Runtime Web."""
    digest = hashlib.sha512(path.read_bytes()).digest()
    monkeypatch.setattr(onnxruntime_web, "INTEGRITY", base64.b64encode(digest).decode())

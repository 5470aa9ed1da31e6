"""A web page that runs the model in the browser: a folder for any static web server."""

import base64
import hashlib
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from rich.console import Console
from torch import Tensor

from transxnet.data.formats.class_alignment import in_words
from transxnet.deploy.export_format import import_package
from transxnet.deploy.format_onnx import OnnxFormat, OnnxSession, save_model
from transxnet.deploy.image_resampling import SUPPORT
from transxnet.deploy.metadata import Metadata, parse_metadata
from transxnet.deploy.onnxruntime_web import FOLDER, RUNTIMES, VERSION, fetch_package, write_runtimes
from transxnet.reports.colors import palette, text_color
from transxnet.reports.drawing import named_background
from transxnet.reports.html_page import load_template
from transxnet.reports.model_description import describe_outputs
from transxnet.utils.errors import UserError
from transxnet.utils.files import WriteError, describe_write_error

MODEL, PAGE = "model.onnx", "index.html"

CONTENT = (PAGE, MODEL, FOLDER)
"""Names in the folder."""

CHECK_SIDE = 128
"""Height and width of the test input along dynamic axes."""

CHECK_POSITIONS = 64

TOLERANCE = {"float32": 1e-2, "float16": 5e-2}
"""Largest accepted difference of a browser's outputs for the test input, relative to the largest value: above the
rounding of GPUs, below the errors of a wrong operator."""

RUNS = 5
"""Number of timed runs."""


class WebFormat(OnnxFormat):
    """A web page: index.html, the model as an ONNX file, and ONNX Runtime Web."""

    suffix = ""
    whole_images, dynamic = False, ("height", "width")

    def versions(self) -> dict[str, str]:
        """Versions of the packages that write and check the model, and of the one that runs it."""
        return {**super().versions(), "onnxruntime-web": VERSION}

    def check_target(self, path: Path, overwrite: bool) -> None:
        """Raise UserError if the folder exists, unless it has an earlier page only and may be overwritten."""
        if not path.exists():
            return
        if not path.is_dir():
            raise UserError(f"{path} is a file, but a web page is a folder. Choose another --out.")
        others = sorted(each.name for each in path.iterdir() if each.name not in CONTENT)
        if others:
            raise UserError(
                f"{path} contains other files than a web page: {', '.join(others[:3])}. Choose another --out."
            )
        if not overwrite and any(path.iterdir()):
            raise UserError(f"{path} already exists. Use --overwrite, or choose another --out.")

    def prepare(self, metadata: Metadata, console: Console) -> None:
        """Check that the page prepares images for such a model, and download ONNX Runtime Web."""
        resize = metadata.resize
        unsupported = {
            "feature maps. Remove --features": metadata.task == "features",
            f"images of {metadata.channels} channels": metadata.channels is not None,
            "--with-preprocessing and --end-to-end": metadata.input != "float32",
            f"batches of {metadata.batch} images. Remove --batch-size": metadata.batch > 1,
            "models that were trained on tiles": "tile" in resize,
            "the resizing of published detectors and segmenters": "opencv_resize" in resize or "as_published" in resize,
            f"{resize.get('interpolation')} interpolation": resize.get("interpolation", "bilinear") not in SUPPORT,
            "classifiers of other images than square ones": "img_size" in resize
            and metadata.size != (resize["img_size"],) * 2,
        }
        reason = next((reason for reason, applies in unsupported.items() if applies), None)
        if reason is not None:
            raise UserError(f"--format web does not support {reason}. Accepted: classifiers, detectors and segmenters.")
        fetch_package(console)

    def files(self, path: Path) -> tuple[Path, ...]:
        """All files in the folder."""
        return tuple(sorted(file for file in path.rglob("*") if file.is_file()))

    def publish(self, temporary: Path, path: Path) -> None:
        """Write the page for a checked ONNX file, and move it to its final name."""
        page = temporary.with_name(f"{temporary.name}.page")
        try:
            page.mkdir()
            metadata = _public(parse_metadata(temporary, self.read_texts(temporary)))
            save_model(import_package("onnx", "ONNX").load(str(temporary)), metadata.to_texts(), page / MODEL)
            write_runtimes(page / FOLDER)
            (page / PAGE).write_text(render_page(metadata, page), encoding="utf-8")
            if path.exists():
                path.rename(temporary.with_name(f"{temporary.name}.earlier"))
            page.rename(path)
        except OSError as error:
            raise WriteError(describe_write_error(path, error)) from error

    def describe(self, path: Path) -> str:
        """Describe the page: its size, what a browser downloads, and the latency of the model on this machine."""
        metadata = parse_metadata(path, self.read_texts(path / MODEL))
        model = (path / MODEL).stat().st_size
        visits = " or ".join(
            f"{(model + _size(path, runtime.files)) / 1e6:,.1f} MB with {runtime.name}"
            for runtime in reversed(RUNTIMES)
        )
        session, images = OnnxSession(path / MODEL, threads=1), check_images(metadata.size)
        session(images)
        times = []
        for _ in range(RUNS):
            start = time.perf_counter()
            session(images)
            times.append(time.perf_counter() - start)
        height, width = metadata.size
        return (
            f"{super().describe(path)}\n"
            f"  model {model / 1e6:,.1f} MB; a browser downloads {visits}, before compression by the server\n"
            f"  latency {1000 * statistics.median(times):.0f} ms at {height}x{width} in ONNX Runtime on one thread of "
            f"this CPU, median of {RUNS} runs; the page shows its own\n"
            f"  try it: python -m http.server -d {path}"
        )


def render_page(metadata: Metadata, page: Path) -> str:
    """Render index.html.

    Args:
        metadata: metadata of the model, public values only.
        page: folder with the model and the runtimes.
    """
    templates = files("transxnet") / "templates"
    script, worker, style = (
        "\n" + (templates / name).read_text(encoding="utf-8")
        for name in ("model_page.js", "model_worker.js", "model_page.css")
    )
    settings = json.dumps(page_settings(metadata, page), ensure_ascii=False).replace("<", "\\u003c")
    height, width = metadata.size
    size = f"images of {height}x{width} pixels" if not metadata.dynamic else "images of any size"
    facts = f"{metadata.model}, {size}, {metadata.dtype}, {(page / MODEL).stat().st_size / 1e6:,.1f} MB"
    return load_template("model_page.html.jinja").render(
        title=metadata.source,
        description=_description(metadata),
        facts=facts,
        task=metadata.task,
        settings=Markup(settings),
        script=Markup(script),
        worker=Markup(worker),
        style=Markup(style),
        hashes={"script": Markup(_csp_hash(script)), "style": Markup(_csp_hash(style))},
    )


def page_settings(metadata: Metadata, page: Path) -> dict[str, Any]:
    """The values that the page's scripts need, as plain data."""
    names = ("task", "mean", "std", "size", "dynamic", "resize", "targets", "score_threshold")
    values = asdict(metadata)
    dense = metadata.task != "classify"
    return {
        **{name: values[name] for name in names},
        "class_names": _class_names(metadata),
        "colors": [_color(color) for color in palette(len(metadata.class_names))] if dense else [],
        "background": named_background(metadata.class_names) if metadata.task == "segment" else None,
        "model_bytes": (page / MODEL).stat().st_size,
        "runtimes": [
            {
                "name": runtime.name,
                "provider": runtime.provider,
                **{kind: f"{FOLDER}/{name}" for kind, name in zip(("script", "binary"), runtime.files, strict=True)},
                "bytes": (page / FOLDER / runtime.binary).stat().st_size,
            }
            for runtime in RUNTIMES
        ],
        "check": expected_outputs(metadata, OnnxSession(page / MODEL)),
    }


def expected_outputs(metadata: Metadata, session: OnnxSession) -> dict[str, Any]:
    """Outputs of the model in ONNX Runtime for the test input, with which the page checks the browser's.

    Of detectors the scores are compared, since boxes with almost equal scores may change places.
    """
    size = [
        CHECK_SIDE if axis in metadata.dynamic else side
        for axis, side in zip(("height", "width"), metadata.size, strict=True)
    ]
    compared = "scores" if metadata.task == "detect" else metadata.outputs[0]
    output = dict(zip(metadata.outputs, session(check_images(size)), strict=True))[compared].flatten()
    positions = np.unique(np.linspace(0, len(output) - 1, CHECK_POSITIONS).astype(int)).tolist()
    return {
        "size": size,
        "outputs": [{"name": compared, "positions": positions, "values": output[positions].double().tolist()}],
        "tolerance": TOLERANCE[metadata.dtype],
    }


def check_images(size: Sequence[int]) -> Tensor:
    """The test input (1, 3, height, width), noise in 0 to 1 that JavaScript computes in the same way."""
    places = np.arange(3 * size[0] * size[1], dtype=np.uint32)
    return torch.from_numpy((places * np.uint32(2654435761) / 2**32).astype(np.float32)).view(1, 3, *size)


def _public(metadata: Metadata) -> Metadata:
    """Without the path of the run and the validation image, since pages are published."""
    return replace(metadata, source=Path(metadata.source).name, reference={})


def _class_names(metadata: Metadata) -> list[str]:
    return [in_words(name) for name in metadata.class_names]


def _description(metadata: Metadata) -> str:
    kind = metadata.decoded_targets.kind if metadata.task == "classify" else "classes"
    return describe_outputs(metadata.task, kind, _class_names(metadata))


def _color(color: tuple[int, int, int]) -> dict[str, Any]:
    fill, text = (f"rgb({', '.join(map(str, each))})" for each in (color, text_color(color)))
    return {"rgb": color, "fill": fill, "text": text}


def _csp_hash(text: str) -> str:
    """The source expression of an inline script or style in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _size(path: Path, names: Any) -> int:
    return sum((path / FOLDER / name).stat().st_size for name in names)

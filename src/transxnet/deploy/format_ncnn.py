"""ncnn models: a .param file with the graph, a .bin file with the weights, and a .json file with the metadata."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.export import ExportedProgram

from transxnet.deploy.export_format import ExportFormat, check_fixed_size, import_package
from transxnet.deploy.format_onnx import save_model, to_onnx
from transxnet.deploy.metadata import Metadata, parse_metadata
from transxnet.utils.errors import UserError
from transxnet.utils.text_files import read_json


class NcnnFormat(ExportFormat):
    """ncnn models, converted from ONNX by pnnx. They take one image of a fixed size."""

    suffix = ".ncnn.param"
    dtypes = ("float32", "float16")
    dynamic = ()
    float32_programs = True

    def versions(self) -> dict[str, str]:
        _package("pnnx")
        return {"ncnn": _package("ncnn").__version__, "pnnx": version("pnnx")}

    def prepare(self, metadata: Metadata, console: Console) -> None:
        """Check that the model is no detector, and takes one normalized image of a fixed size."""
        check_fixed_size("ncnn", metadata)
        if metadata.input != "float32":
            raise UserError(
                "--format ncnn does not support --with-preprocessing. Remove it; the metadata describes the "
                "preprocessing."
            )

    def write(
        self, program: ExportedProgram, outputs: Sequence[str], texts: Mapping[str, str], dtype: str, path: Path
    ) -> None:
        """Write the files; float16 is how weights are stored.

        Raises:
            UserError: pnnx cannot convert the network, or ncnn lacks one of its operators.
        """
        converter = _package("pnnx").EXEC_PATH
        with tempfile.TemporaryDirectory(dir=path.parent) as name:
            folder = Path(name)
            save_model(to_onnx(program, outputs), {}, folder / "model.onnx")
            command = [converter, "model.onnx", f"fp16={int(dtype == 'float16')}"]
            result = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            graph, weights = folder / "model.ncnn.param", folder / "model.ncnn.bin"
            if result.returncode or not (graph.is_file() and weights.is_file()):
                last = result.stdout.strip().splitlines()[-1:]
                raise UserError(
                    f"pnnx cannot convert this network to ncnn: exit status {result.returncode}: {''.join(last)}. Use "
                    "--format onnx."
                )
            graph.write_text(name_blobs(graph.read_text(), outputs))
            graph.replace(path)
            weights.replace(_weights(path))
        _metadata(path).write_text(json.dumps(dict(texts), ensure_ascii=False, indent=1))

    def read_texts(self, path: Path) -> dict[str, str]:
        """Read the .json file."""
        try:
            texts = read_json(_metadata(path))
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the metadata of {path} in {_metadata(path)}: {error}") from error
        if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
            raise UserError(f"{_metadata(path)} is not the metadata of an exported file. Export the model again.")
        return texts

    def open(self, path: Path, dtype: str, threads: int = 0) -> "NcnnSession":
        return NcnnSession(path, parse_metadata(path, self.read_texts(path)).outputs, dtype, threads)

    def files(self, path: Path) -> tuple[Path, ...]:
        """The graph, the weights and the metadata."""
        return (path, _weights(path), _metadata(path))


class NcnnSession:
    """An ncnn model, on the CPU.

    Args:
        path: path of the .param file.
        outputs: names of its outputs.
        dtype: float32 disables ncnn's computation in float16 and bfloat16.
        threads: number of threads; 0 for ncnn's default, as many as there are large cores.
    """

    def __init__(self, path: Path, outputs: Sequence[str], dtype: str, threads: int = 0):
        self._ncnn = _package("ncnn")
        self._outputs = outputs
        self._net = self._ncnn.Net()
        options = self._net.opt
        options.use_vulkan_compute = options.use_bf16_storage = False
        if dtype == "float32":
            options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        if threads:
            options.num_threads = threads
        if not _weights(path).is_file():
            raise UserError(
                f"{_weights(path)} is missing: an ncnn model consists of a .param, a .bin and a .json file."
            )
        if self._net.load_param(str(path)) or self._net.load_model(str(_weights(path))):
            raise UserError(f"cannot read {path} as an ncnn model. Export the model again.")

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Run the model on one image after another; return its outputs in the file's order."""
        results = [self._run(np.ascontiguousarray(image.numpy())) for image in images]
        return [torch.stack(each) for each in zip(*results, strict=True)]

    def _run(self, image: np.ndarray) -> list[Tensor]:
        with self._net.create_extractor() as extractor:
            extractor.input("images", self._ncnn.Mat(image))
            return [torch.from_numpy(np.array(extractor.extract(name)[1])) for name in self._outputs]


def name_blobs(graph: str, outputs: Sequence[str]) -> str:
    """Rename the input and the outputs of a .param file as in the other formats.

    Args:
        graph: the text of the file: two lines of numbers, then for each layer its type, name, the numbers of its inputs
            and outputs, their names, and its options.
        outputs: names of the outputs, which pnnx calls out0, out1 and so on.

    Raises:
        UserError: pnnx kept operators that ncnn lacks.
    """
    names = {"in0": "images", **{f"out{i}": name for i, name in enumerate(outputs)}}
    lines = graph.splitlines()
    lacking = set()
    for number, line in enumerate(lines[2:], 2):
        words = line.split()
        if "." in words[0] or "::" in words[0]:  # such as F.grid_sample; ncnn's own have one word
            lacking.add(words[0])
        blobs = slice(4, 4 + int(words[2]) + int(words[3]))
        words[blobs] = [names.get(word, word) for word in words[blobs]]
        lines[number] = " ".join(words)
    if lacking:
        raise UserError(f"ncnn lacks operators of this network: {', '.join(sorted(lacking))}. Use --format onnx.")
    return "\n".join(lines) + "\n"


def _weights(path: Path) -> Path:
    return path.with_suffix(".bin")


def _metadata(path: Path) -> Path:
    return path.with_suffix(".json")


def _package(name: str) -> Any:
    return import_package(name, "--format ncnn", "mobile")

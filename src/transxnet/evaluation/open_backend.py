"""Open a run, an exported file or published weights for inference."""

from pathlib import Path

from transxnet.data.tiling import Tiling
from transxnet.deploy.exported_model import load_exported
from transxnet.deploy.format_registry import is_exported
from transxnet.evaluation.exported_backends import ExportedBackend, WholeImageBackend
from transxnet.evaluation.inference_backends import InferenceBackend, TrainedBackend
from transxnet.runs.load import load_model
from transxnet.utils.device import resolve_device
from transxnet.utils.errors import UserError


def with_options(backend: InferenceBackend, tile: int | None, overlap: float, tta: bool) -> InferenceBackend:
    """Return a backend with images cut into tiles of a side in pixels, if given, and with test-time augmentation.

    Raises:
        UserError: tiles are given for a classifier, or a value is out of range.
    """
    if tile is not None:
        backend = backend.with_tiling(Tiling(tile, overlap))
    return backend.with_tta() if tta else backend


def open_backend(
    model: str | Path, file: str | Path | None = None, device: str = "auto", features: bool = False
) -> InferenceBackend:
    """Open a run, an exported file or a model with published weights; its first prediction moves it to the device.

    Args:
        model: run folder; exported file (.onnx, .xml, .pt2, .pte or .ncnn.param); or name of a model with published
            weights.
        file: file with published weights, for a model by name.
        device: device to compute on: auto, cpu, cuda, cuda:1 or mps. Exported files run on the CPU.
        features: accept the run of a pretraining, which has no classes.

    Raises:
        UserError: the model cannot be opened, or the device does not exist.
    """
    if is_exported(model):
        if file is not None:
            raise UserError(f"{model} is an exported file, which contains its weights. Remove --file.")
        if device not in ("auto", "cpu"):
            raise UserError(f"{model} is an exported file and runs on the CPU, got device {device}. Remove --device.")
        exported = load_exported(model)
        return (WholeImageBackend if exported.metadata.input == "image" else ExportedBackend)(exported, model)
    where = resolve_device(device)
    return TrainedBackend(load_model(model, file, features=features), where)

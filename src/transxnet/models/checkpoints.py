"""Read checkpoint files and load weights into networks; no tensor is ever dropped silently."""

import argparse
import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from timm.models._builder import _resolve_pretrained_source
from timm.models._hub import download_cached_file, load_state_dict_from_hf
from torch import Tensor, nn

from transxnet.layers import resize_position_bias
from transxnet.models.published_layouts import convert_published, is_ours
from transxnet.utils.errors import UserError, by_interface

_log = logging.getLogger(__name__)

# Keys under which published files store the tensors. EMA weights come first: the published accuracy was measured with
# them.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_PREFIXES = ("module.", "backbone.")

# Non-tensor data in training scripts' checkpoints: timm's argparse Namespace, and mmsegmentation's best score as a
# NumPy scalar, whose module was renamed in NumPy 2.
_PLAIN_DATA: list = [
    argparse.Namespace,
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")},
]


def convert_official_state_dict(state_dict: Mapping) -> dict[str, Tensor]:
    """Convert a published checkpoint, in any of its layouts, to the state dict of our model.

    Args:
        state_dict: the tensors by name, bare or under "state_dict_ema", "model_ema", "state_dict" or "model" (in this
            order of precedence), with or without the prefixes "module." and "backbone."; classifier, dense form, or a
            whole detector or segmenter.

    Returns:
        name -> tensor, for :class:`TransXNet`; from the dense form, for :class:`TransXNetFeatures`; from a detector or
        segmenter, for :class:`~transxnet.heads.RetinaNet`, :class:`~transxnet.heads.MaskRCNN` or
        :class:`~transxnet.heads.SemanticFPN` on it. Tensors that are already in our layout are returned unchanged.

    Raises:
        UserError: no tensors, tensors of another network, or an incomplete stage; the message names them.
    """
    tensors = unwrap(state_dict)
    if is_ours(tensors):
        return tensors
    converted, foreign, missing = convert_published(tensors)
    if foreign or missing:
        raise UserError(
            "this is not a TransXNet checkpoint in a published layout."
            + _list_names("unexpected", foreign)
            + _list_names("missing", missing)
        )
    return converted


def unwrap(state_dict: Mapping) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, without wrappers and without prefixes that all names share.

    Raises:
        UserError: there are no tensors, or other values among them.
    """
    return _strip_prefixes(_unwrap(state_dict))


def load_pretrained(model: nn.Module, pretrained_cfg: Mapping, cache_dir: str | None = None) -> None:
    """Load the weights of a timm pretrained configuration, and account for every tensor.

    The source is chosen as in timm: ``source`` if it is "hf-hub" or "local-dir", else the first of ``state_dict``,
    ``file``, ``hf_hub_id`` (optionally with ``hf_hub_filename``), ``url``. A different number of classes or input
    channels, another size of the position bias and the dense form's norms are adapted and logged.

    Raises:
        UserError: no source, an unreadable file, another kind of file, or missing, unexpected or misshapen tensors.
    """
    load_adapted(model, convert_official_state_dict(read_source(pretrained_cfg, cache_dir)))


def read_source(pretrained_cfg: Mapping, cache_dir: str | None = None) -> Mapping:
    """Read the checkpoint that a timm pretrained configuration names, in whatever layout it has.

    Raises:
        UserError: no source, or an unreadable file.
    """
    source, place = _resolve_pretrained_source(dict(pretrained_cfg))
    if source == "state_dict":
        return place  # type: ignore[return-value]
    if source == "file":
        return read_checkpoint(place)
    if source == "local-dir":
        return read_checkpoint(find_weights(place))
    if source == "hf-hub":
        repository = [place] if isinstance(place, str) else place  # or the repository and the file in it
        return load_state_dict_from_hf(*repository, weights_only=True, cache_dir=cache_dir)
    if source == "url":
        return read_checkpoint(download(place, cache_dir))
    raise UserError(
        f"no published weights for {pretrained_cfg.get('architecture', 'this model')}. "
        + by_interface(
            "Use a run folder, or a weights file: --checkpoint in train, --file in other commands.",
            "Use pretrained=False, or a file with pretrained_cfg_overlay=dict(file=...).",
        )
    )


def find_weights(folder: str | Path) -> Path:
    """Return the weights file of a folder: model.safetensors, else the first file of the best format, as in timm.

    Raises:
        UserError: the folder has no weights file.
    """
    folder = Path(folder)
    for pattern in ("model.safetensors", "pytorch_model.bin", "*.safetensors", "*.pth", "*.pth.tar", "*.bin"):
        if found := sorted(folder.glob(pattern)):
            return found[0]
    raise UserError(f"{folder} has no weights file. Accepted: model.safetensors, or a .pth, .pth.tar or .bin file.")


def download(url: str, cache_dir: str | None = None) -> str:
    """Download a file into timm's cache, unless it is there; return the local path.

    Raises:
        UserError: the file cannot be downloaded.
    """
    try:
        return download_cached_file(url, cache_dir=cache_dir)
    except OSError as error:
        raise UserError(
            f"cannot download {url} ({error}). Download it in another way and pass "
            + by_interface(
                "it as --checkpoint to train, or as --file to other commands.", "pretrained_cfg_overlay=dict(file=...)."
            )
        ) from error


def read_checkpoint(path: str | Path) -> Mapping:
    """Read a file of tensors (safetensors, or PyTorch's format) without executing code that it may contain.

    Raises:
        UserError: the file is missing, truncated, of another format, or holds more than tensors and plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint file {path} does not exist.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _check_archive(path)
        with torch.serialization.safe_globals(_PLAIN_DATA):
            return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise UserError(f"cannot read {path}: {error}.") from error
    except Exception as error:  # on invalid data the readers raise many kinds of exceptions
        forbidden = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if forbidden:
            raise UserError(
                f"refused to load {path}: it contains {forbidden[1]}, which can execute arbitrary code. Accepted: "
                "tensors and plain data. If you trust the file, load it with torch.load(..., weights_only=False), "
                + by_interface(
                    "and save its tensors with safetensors.torch.save_file.",
                    "and pass the tensors as pretrained_cfg_overlay=dict(state_dict=...).",
                )
            ) from error
        raise UserError(f"{path} is truncated or not a checkpoint: it starts with {_beginning(path)}.") from error


def _check_archive(path: Path) -> None:
    """Raise ValueError if an archive unpacks to more than its own size; PyTorch never compresses its archives."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise ValueError("the archive contains more bytes than its own size")


def load_adapted(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load converted tensors into a model that may differ in classes, input channels, bias size or outputs.

    Raises:
        UserError: tensors are missing, unexpected or of another shape; the message names them.
    """
    own = model.state_dict()
    tensors = dict(tensors)
    _adapt_head(own, tensors)
    for name, tensor in tensors.items():
        if name not in own or tensor.shape == own[name].shape:
            continue
        if name.endswith("pos_bias.weight") and tensor.shape[:2] == own[name].shape[:2]:
            _log.info("resized %s from %s to %s", name, tuple(tensor.shape[2:]), tuple(own[name].shape[2:]))
            tensors[name] = resize_position_bias(tensor, own[name].shape[2:])
        elif name == "stages.0.patch_embed.conv.weight" and tensor.shape[1] == 3:
            _log.info("adapted %s from 3 to %d input channels", name, own[name].shape[1])
            tensors[name] = adapt_input_conv(own[name].shape[1], tensor)
    load_matching(model, tensors)


def load_matching(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors into a model that has exactly these.

    Raises:
        UserError: tensors are missing, unexpected or of another shape; the message names them.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    mismatched = [
        f"{name} {tuple(tensor.shape)} for {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    if missing or unexpected or mismatched:
        raise UserError(
            "the checkpoint does not match the model. Check the model variant."
            + _list_names("missing", missing)
            + _list_names("unexpected", unexpected)
            + _list_names("shape mismatch", mismatched)
        )
    model.load_state_dict(tensors)


def _adapt_head(own: Mapping[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Adapt ``tensors`` to the model's outputs: a new head for another number of classes, none for the dense form."""
    dense_model = any(name.startswith("norms.") for name in own)
    dense_file = any(name.startswith("norms.") for name in tensors)
    head = [name for name in tensors if name.startswith(("head.", "norm."))]
    if dense_model and not dense_file and head:
        new = {name: tensor for name, tensor in own.items() if name.startswith("norms.")}
        tensors.update(new)
        for name in head:
            del tensors[name]
        _log.info(
            "loaded a classifier into the dense form: its head is dropped, the norms %s are initialized randomly",
            list(new),
        )
    if dense_model:
        # If the model has fewer outputs than the file, it lacks the norms and stages after them.
        stages = {name.split(".")[1] for name in own if name.startswith("stages.")}
        for name in [n for n in tensors if n.startswith(("norms.", "stages."))]:
            unused_norm = name.startswith("norms.") and name not in own
            unused_stage = name.startswith("stages.") and name.split(".")[1] not in stages
            if unused_norm or unused_stage:
                del tensors[name]
    fc, own_fc = tensors.get("head.fc.weight"), own.get("head.fc.weight")
    if fc is not None and not dense_model and (own_fc is None or own_fc.shape[0] != fc.shape[0]):
        classes = 0 if own_fc is None else own_fc.shape[0]
        _log.warning(
            "the checkpoint has %d classes, the model %d: the backbone is loaded, the head is initialized randomly",
            len(fc),
            classes,
        )
        for name in ("head.fc.weight", "head.fc.bias"):
            if tensors.pop(name, None) is not None and name in own:
                tensors[name] = own[name]


def _unwrap(state_dict: Mapping) -> Mapping:
    if not isinstance(state_dict, Mapping):
        raise UserError(f"expected a mapping of names to tensors, got {type(state_dict).__name__}.")
    for key in _WRAPPERS:
        if isinstance(state_dict.get(key), Mapping):
            return state_dict[key]
    return state_dict


def _strip_prefixes(state_dict: Mapping) -> dict[str, Tensor]:
    not_tensors = [str(k) for k, v in state_dict.items() if not (isinstance(k, str) and isinstance(v, Tensor))]
    if not state_dict or not_tensors:
        raise UserError(
            "expected a mapping of names to tensors, bare or under one of "
            f"{', '.join(_WRAPPERS)}." + (_list_names("not tensors", not_tensors) if not_tensors else " It is empty.")
        )
    tensors = dict(state_dict)
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if all(name.startswith(prefix) for name in tensors):
                tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
                stripped = True
    return tensors


def _list_names(what: str, names: list[str], most: int = 8) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"\n  {what} ({len(names)}): {', '.join(names[:most])}{more}"


def _beginning(path: Path, length: int = 24) -> str:
    with path.open("rb") as file:
        return repr(file.read(length))

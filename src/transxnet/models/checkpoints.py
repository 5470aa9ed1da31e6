"""Published checkpoints: how their files are read and how their layout becomes ours.

The published layout numbers its stages 0, 2, 4 and 6, with the downsampling between them at 1, 3 and 5. Wrappers and
prefixes that were met in the wild are taken off; nothing is ever dropped unseen.
"""

import argparse
import logging
import pickle
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from timm.models._hub import download_cached_file, load_state_dict_from_hf
from torch import Tensor, nn

from transxnet.errors import UserError
from transxnet.layers import resize_position_bias

_log = logging.getLogger(__name__)

# The average over the training comes first: it is what the published accuracy was measured with.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_PREFIXES = ("module.", "backbone.")

# Within a block: published name -> ours. Longer names first where one begins another.
_BLOCK = {
    "pos_embed": "dpe.dwconv",
    "norm1": "norm1",
    "norm2": "norm2",
    "layer_scale_1": "scale1",
    "layer_scale_2": "scale2",
    "token_mixer.local_unit.proj.0": "mixer.idconv.squeeze",
    "token_mixer.local_unit.proj.1": "mixer.idconv.expand",
    "token_mixer.local_unit": "mixer.idconv",
    "token_mixer.global_unit.q": "mixer.osra.q",
    "token_mixer.global_unit.sr.0": "mixer.osra.reduction.reduce",
    "token_mixer.global_unit.sr.1": "mixer.osra.reduction.scale",
    "token_mixer.global_unit.local_conv": "mixer.osra.refinement.dwconv",
    "token_mixer.global_unit.kv": "mixer.osra.kv",
    "token_mixer.proj.0": "mixer.ste.dwconv",
    "token_mixer.proj.2": "mixer.ste.bn1",
    "token_mixer.proj.3": "mixer.ste.squeeze",
    "token_mixer.proj.5": "mixer.ste.bn2",
    "token_mixer.proj.6": "mixer.ste.expand",
    "token_mixer.proj.7": "mixer.ste.bn3",
    "mlp.fc1.0": "ffn.expand",
    "mlp.fc1.2": "ffn.bn1",
    "mlp.dwconv.proj": "ffn.dwconv",
    "mlp.norm": "ffn.bn2",
    "mlp.fc2.0": "ffn.project",
    "mlp.fc2.1": "ffn.bn3",
}
_HEAD = {"classifier.0": "norm", "classifier.2": "head.fc"}


def convert_official_state_dict(state_dict: Mapping) -> dict[str, Tensor]:
    """Turn a published checkpoint, of any of its layouts, into the state dict of our model.

    Args:
        state_dict: the tensors by name, bare or under "state_dict_ema", "model_ema", "state_dict" or "model" (in this
            order, where there are several), with or without the prefixes "module." and "backbone."; classifier or
            dense form.

    Returns:
        name -> tensor, for :class:`TransXNet` or, from the dense form, :class:`TransXNetFeatures`. What is in our
        layout already comes back as it is.

    Raises:
        UserError: no tensors, tensors of another network, or a stage without all of its parts; they are named.
    """
    tensors = _strip_prefixes(_unwrap(state_dict))
    if is_ours(tensors):
        return tensors
    converted, foreign = {}, []
    for name, tensor in tensors.items():
        ours = _our_name(name)
        if ours is None:
            foreign.append(name)
            continue
        if name.startswith("classifier.2.weight") and tensor.ndim == 4:
            tensor = tensor.flatten(1)  # a 1x1 convolution on pooled features is a linear layer
        if "layer_scale" in name:
            tensor = tensor.flatten()
        converted[ours] = tensor
    missing = _incomplete([name for name in tensors if name not in foreign])
    if foreign or missing:
        raise UserError(
            "this is not a TransXNet checkpoint of a published layout."
            + _list_names("left over", foreign)
            + _list_names("missing", missing)
        )
    return converted


def is_ours(tensors: Mapping) -> bool:
    """Whether the names are those of this package's models."""
    return any(name.startswith("stages.0.patch_embed.") for name in tensors)


def load_pretrained(model: nn.Module, pretrained_cfg: Mapping, cache_dir: str | None = None) -> None:
    """Load the weights that a timm pretrained configuration points to, every tensor accounted for.

    The source is, in this order: ``state_dict``, ``file``, ``hf_hub_id``, ``url``. A different number of classes or of
    input channels, another size of the position bias and the dense form's norms are adapted to, and logged.

    Raises:
        UserError: no source, an unreadable or foreign file, or tensors that are missing, left over or misshapen.
    """
    if pretrained_cfg.get("state_dict"):
        tensors = pretrained_cfg["state_dict"]
    elif pretrained_cfg.get("file"):
        tensors = read_checkpoint(pretrained_cfg["file"])
    elif pretrained_cfg.get("hf_hub_id"):
        tensors = load_state_dict_from_hf(pretrained_cfg["hf_hub_id"], weights_only=True, cache_dir=cache_dir)
    elif pretrained_cfg.get("url"):
        tensors = read_checkpoint(download(pretrained_cfg["url"], cache_dir))
    else:
        raise UserError(
            f"there are no published weights for {pretrained_cfg.get('architecture', 'this model')}. Create it with "
            "pretrained=False, or point to a file with pretrained_cfg_overlay=dict(file=...)."
        )
    load_adapted(model, convert_official_state_dict(tensors))


def download(url: str, cache_dir: str | None = None) -> str:
    """Fetch a file into timm's cache, or find it there; the local path.

    Raises:
        UserError: the file cannot be fetched.
    """
    try:
        return download_cached_file(url, cache_dir=cache_dir)
    except OSError as error:
        raise UserError(
            f"cannot fetch {url} ({error}). Fetch it by other means and pass pretrained_cfg_overlay=dict(file=...)."
        ) from error


def read_checkpoint(path: str | Path) -> Mapping:
    """Read a file of tensors (safetensors, or PyTorch's format) without running any code that it may carry.

    Raises:
        UserError: the file is missing, truncated, of another format, or holds more than tensors and plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint file {path}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # A Namespace of options is what timm's training script adds; it is plain data.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    except Exception as error:  # on bytes that are not theirs the readers raise errors of many kinds
        forbidden = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if forbidden:
            raise UserError(
                f"{path} holds more than tensors and plain data, {forbidden[1]} among it, so opening it could run "
                "somebody's code, and it is refused. If you trust its author, load it yourself with "
                "torch.load(..., weights_only=False) and pass the tensors as "
                "pretrained_cfg_overlay=dict(state_dict=...)."
            ) from error
        raise UserError(f"{path} is truncated or not a checkpoint: it begins with {_beginning(path)}.") from error


def load_adapted(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load converted tensors into a model that may differ in classes, input channels, bias size or outputs.

    Raises:
        UserError: tensors that are missing, left over or of another shape, named.
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
    missing = [name for name in own if name not in tensors]
    left_over = [name for name in tensors if name not in own]
    misshapen = [
        f"{name} {tuple(tensor.shape)} for {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    if missing or left_over or misshapen:
        raise UserError(
            "the checkpoint does not fit the model; is it of another variant?"
            + _list_names("missing", missing)
            + _list_names("left over", left_over)
            + _list_names("of another shape", misshapen)
        )
    model.load_state_dict(tensors)


def _adapt_head(own: Mapping[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Make ``tensors`` fit the model's outputs: another number of classes gets a new head, the dense form has none."""
    dense_model = any(name.startswith("norms.") for name in own)
    dense_file = any(name.startswith("norms.") for name in tensors)
    head = [name for name in tensors if name.startswith(("head.", "norm."))]
    if dense_model and not dense_file and head:
        new = {name: tensor for name, tensor in own.items() if name.startswith("norms.")}
        tensors.update(new)
        for name in head:
            del tensors[name]
        _log.info("a classifier's weights for the dense form: left out its head, and the norms %s start new", list(new))
    if dense_model:
        # Fewer outputs than the file has: the norms and stages behind them are not part of this model.
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
            "the checkpoint has %d classes, the model %d: the backbone is kept, the head is new", len(fc), classes
        )
        for name in ("head.fc.weight", "head.fc.bias"):
            if tensors.pop(name, None) is not None and name in own:
                tensors[name] = own[name]


def _unwrap(state_dict: Mapping) -> Mapping:
    if not isinstance(state_dict, Mapping):
        raise UserError(f"expected a mapping of names to tensors, got a {type(state_dict).__name__}.")
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


def _our_name(name: str) -> str | None:
    """The name in our layout of one published tensor, or None for one that is not known."""
    if match := re.fullmatch(r"patch_embed\.proj\.(.+)", name):
        return f"stages.0.patch_embed.{match[1]}"
    if match := re.fullmatch(r"relative_pos_enc\.([0-3])", name):
        return f"stages.{match[1]}.pos_bias.weight"
    if match := re.fullmatch(r"norm([0246])\.(weight|bias)", name):
        return f"norms.{int(match[1]) // 2}.{match[2]}"
    if match := re.fullmatch(r"network\.([135])\.proj\.(.+)", name):
        return f"stages.{(int(match[1]) + 1) // 2}.patch_embed.{match[2]}"
    if match := re.fullmatch(r"network\.([0246])\.(\d+)\.(.+)", name):
        for theirs, ours in _BLOCK.items():
            if match[3].startswith(theirs + "."):
                return f"stages.{int(match[1]) // 2}.blocks.{match[2]}.{ours}{match[3].removeprefix(theirs)}"
    for theirs, ours in _HEAD.items():
        if name.startswith(theirs + "."):
            return ours + name.removeprefix(theirs)
    return None


def _incomplete(names: Collection[str]) -> list[str]:
    """The published names of tensors that other tensors of the same checkpoint show to be missing.

    Every block holds the same names but for OSRA's reduction, which all blocks of its stage have or none has. A head's
    layer or an output's norm may be absent, but not in part.
    """
    blocks: dict[tuple[str, str], set[str]] = {}
    for name in names:
        if match := re.fullmatch(r"network\.([0246])\.(\d+)\.(.+)", name):
            blocks.setdefault((match[1], match[2]), set()).add(match[3])
    if not blocks:
        return ["every block"]
    common = {leaf for block in blocks.values() for leaf in block if ".sr." not in leaf}
    missing = []
    for stage in "0246":
        expected = common.union(*(block for (s, _), block in blocks.items() if s == stage))
        depth = 1 + max((int(b) for s, b in blocks if s == stage), default=0)
        for i in range(depth):
            absent = expected - blocks.get((stage, str(i)), set())
            missing += sorted(f"network.{stage}.{i}.{leaf}" for leaf in absent)
    outside = [f"relative_pos_enc.{i}" for i in range(4)]
    for embedding in ("patch_embed.proj", "network.1.proj", "network.3.proj", "network.5.proj"):
        outside += [f"{embedding}.conv.weight"]
        outside += [f"{embedding}.bn.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]
    for layer in ("classifier.0", "classifier.2", "norm0", "norm2", "norm4", "norm6"):
        pair = [f"{layer}.weight", f"{layer}.bias"]
        outside += pair if any(name in names for name in pair) else []
    return missing + [name for name in outside if name not in names]


def _list_names(what: str, names: list[str], most: int = 8) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"\n  {what} ({len(names)}): {', '.join(names[:most])}{more}"


def _beginning(path: Path, length: int = 24) -> str:
    with path.open("rb") as file:
        return repr(file.read(length))

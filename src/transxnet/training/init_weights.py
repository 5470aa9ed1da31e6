"""Initial weights for training, from published files, runs and checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.models import adapt_input_conv, clean_state_dict
from torch import Tensor, nn

from transxnet.models.checkpoints import (
    convert_official_state_dict,
    load_adapted,
    load_matching,
    read_checkpoint,
    unwrap,
)
from transxnet.models.peers.peer_network import PeerNetwork
from transxnet.models.transxnet import TransXNet
from transxnet.runs.config import TrainConfig
from transxnet.runs.run_folder import Run
from transxnet.utils.errors import UserError

_LIGHTNING = "pytorch-lightning_version"


def load_initial_weights(model: nn.Module, checkpoint: str) -> list[str]:
    """Load initial weights into a model.

    Args:
        model: model to load into; it keeps its own head if the number of classes differs.
        checkpoint: run folder (finished or not), checkpoint of a run, published file, or state dict of the model.

    Returns:
        A message for the user if the head is new.

    Raises:
        UserError: the file does not exist, is not a checkpoint, or is of another model.
    """
    tensors = dict(read_weights(Path(checkpoint)))
    try:
        if isinstance(model, TransXNet):
            tensors = convert_official_state_dict(tensors)
            notes = _keep_own_head(model, tensors)
            load_adapted(model, tensors)
        elif isinstance(model, PeerNetwork):
            tensors = model.convert_checkpoint(unwrap(tensors))
            notes = _keep_own_head(model, tensors)
            _adapt_stem(model, tensors)
            load_matching(model, tensors)
        else:
            tensors = clean_state_dict(tensors)
            notes = _keep_own_head(model, tensors)
            _adapt_stem(model, tensors)
            model.load_state_dict(tensors)
    except (UserError, RuntimeError, AttributeError, TypeError) as error:
        raise UserError(f"{checkpoint} does not match the model: {error}") from error
    return notes


def initial_weight_arguments(config: TrainConfig, resumed: bool) -> dict[str, Any]:
    """Return the initial weights as arguments of :func:`~transxnet.heads.create_detector` and ``create_segmenter``."""
    if resumed:
        return {}
    if config.checkpoint is not None:
        return {"checkpoint": read_weights(Path(config.checkpoint))}
    return {"pretrained": config.pretrained}


def model_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the network's weights from the state dict of a training module: the EMA weights if it has them."""
    prefix = "ema.module." if any(name.startswith("ema.module.") for name in state_dict) else "model."
    return {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}


def read_weights(path: Path) -> Mapping[str, Any]:
    """Read the tensors of a run folder (finished or not), of a checkpoint of a run, or of another file."""
    if path.is_dir():
        run = Run.open(path)
        path = run.weights_file if run.weights_file.is_file() else next(iter(run.checkpoints), run.weights_file)
    content = read_checkpoint(path)
    return model_weights(content["state_dict"]) if _LIGHTNING in content else content


def _adapt_stem(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Adapt the first convolution, trained on RGB images, to the channels of the model."""
    names = model.pretrained_cfg.get("first_conv") or ()  # type: ignore[union-attr, operator]
    own = model.state_dict()
    for weight in [f"{name}.weight" for name in ([names] if isinstance(names, str) else names)]:
        if weight in own and weight in tensors and tensors[weight].shape[1] == 3 != own[weight].shape[1]:
            tensors[weight] = adapt_input_conv(own[weight].shape[1], tensors[weight])


def _keep_own_head(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Replace a head for other classes by the model's own, if it has one; return a message if there is a new head."""
    own, names = model.state_dict(), model.pretrained_cfg.get("classifier") or ()  # type: ignore[union-attr, operator]
    for head in [names] if isinstance(names, str) else names:
        theirs, ours = (len(of[f"{head}.weight"]) if f"{head}.weight" in of else 0 for of in (tensors, own))
        if theirs != ours:
            for name in (f"{head}.weight", f"{head}.bias"):
                tensors.pop(name, None)
                tensors.update({name: own[name]} if name in own else {})
            known = f"{theirs:,} classes" if theirs else "no classes"
            loaded = "the backbone is loaded, the head is initialized randomly"
            return [f"the checkpoint has {known}, the data {ours:,}: {loaded}"] if ours else []
    return []

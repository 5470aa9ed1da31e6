"""Base class of the networks that the paper compares with: timm's interface over the authors' tensor names."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from timm.layers import LayerNorm2d, SelectAdaptivePool2d
from timm.models import adapt_input_conv, build_model_with_cfg
from timm.models._builder import pretrained_cfg_for_features
from timm.models._features import FeatureGetterNet, feature_take_indices
from torch import Tensor, nn

from transxnet.layers.checks import check_positive
from transxnet.models.checkpoints import load_matching, read_source, unwrap
from transxnet.models.four_stages import checkpoint_block, init_weights
from transxnet.models.scripting import ScriptedByTracing
from transxnet.models.timm_api import StageByStage, imagenet_cfg


class ConvEmbed(nn.Module):
    """A patch embedding: a convolution and LayerNorm.

    Shapes:
        (B, in_dim, H, W) -> (B, dim, H', W'), with H' = floor((H + 2 padding - kernel_size) / stride) + 1, W' likewise.
    """

    def __init__(self, in_dim: int, dim: int, kernel_size: int, stride: int, padding: int = 0):
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, kernel_size, stride, padding)
        self.norm = LayerNorm2d(dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x))


class Blocks(nn.Sequential):
    """The blocks of a stage, each called with the previous one's output and with further inputs of all blocks.

    With ``grad_checkpointing`` only each block's input is stored, and its activations are recomputed in the backward
    pass.
    """

    grad_checkpointing = False

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        for block in self:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint_block(block, x, *others)
            else:
                x = block(x, *others)
        return x


class PeerNetwork(StageByStage, ScriptedByTracing, nn.Module, ABC):
    """Base class: a subclass builds its layers, then calls :meth:`finish`, and defines the three class attributes.

    The names of modules are those of the authors' checkpoints, so these load without renaming.

    Args:
        embed_dims: channels of the stages' outputs.
        depths: number of blocks of the stages.
        in_chans: input channels.
        num_classes: number of outputs; 0 for no classifier, which returns the pooled features.
        global_pool: "avg", another of timm's poolings, or "" for none (then ``num_classes`` must be 0).
        drop_rate: dropout rate before the classifier.
    """

    classifier = "head"
    """Name of the linear layer that classifies."""

    output_modules: tuple[str, ...] = ()
    """Names of the modules whose outputs are the stages' feature maps."""

    stage_modules: tuple[tuple[str, ...], ...] = ()
    """Names of the modules of each stage, which are removed with it."""

    def __init__(
        self,
        embed_dims: Sequence[int],
        depths: Sequence[int],
        in_chans: int,
        num_classes: int,
        global_pool: str,
        drop_rate: float,
    ):
        super().__init__()
        check_positive(in_chans=in_chans, **{f"depths[{i}]": depth for i, depth in enumerate(depths)})
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = embed_dims[-1]
        self.num_stages = len(embed_dims)
        self.feature_info = [
            dict(num_chs=dim, reduction=4 * 2**i, module=name)
            for i, (dim, name) in enumerate(zip(embed_dims, self.output_modules, strict=True))
        ]
        self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        self.head_drop = nn.Dropout(drop_rate)

    def finish(self) -> None:
        """Create the classifier and initialize the weights as in our own networks."""
        self.reset_classifier(self.num_classes)
        self.apply(init_weights)

    @abstractmethod
    def run_stage(self, index: int, x: Tensor) -> Tensor:
        """Compute a stage from the previous one's output, or from the images: (B, C, H, W) -> (B, C', H', W')."""

    @property
    def stages(self) -> list[Callable[[Tensor], Tensor]]:
        """The stages as functions."""
        return [partial(self.run_stage, i) for i in range(self.num_stages)]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify: (B, num_features, H', W') -> (B, num_classes), or with pre_logits (B, num_features)."""
        x = self.head_drop(self.global_pool(x))
        return x if pre_logits else self.get_classifier()(x)

    def get_classifier(self) -> nn.Module:
        """The layer that maps pooled features to classes."""
        return self.get_submodule(self.classifier)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier, and optionally the pooling before it."""
        if global_pool is not None:
            self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        if num_classes and self.global_pool.is_identity():
            raise ValueError(f"num_classes must be 0 without pooling, got {num_classes}")
        self.num_classes = num_classes
        layer = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        init_weights(layer)
        parent, _, name = self.classifier.rpartition(".")
        setattr(self.get_submodule(parent), name, layer.to(next(self.parameters())))

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last of ``indices``; optionally also the final norm and the head."""
        take, last = feature_take_indices(self.num_stages, indices)
        for names in reversed(self.stage_modules[last + 1 : self.num_stages]):
            for name in names:
                parent, _, leaf = name.rpartition(".")
                delattr(self.get_submodule(parent), leaf)
        if prune_norm or last + 1 < self.num_stages:
            self.norm = nn.Identity()
        self.num_stages = last + 1
        if prune_head:
            self.reset_classifier(0, "")
        return take

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Enable gradient checkpointing: store only each block's input, which saves memory and costs time."""
        for module in self.modules():
            if isinstance(module, Blocks):
                module.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names of parameters without weight decay; timm excludes biases and norms anyway."""
        return set()

    def convert_checkpoint(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the authors' checkpoint that this network has; by default all."""
        return dict(tensors)


def peer_cfg(**kwargs: Any) -> dict:
    """timm's pretrained configuration of a network without a download."""
    return imagenet_cfg(**{"classifier": "head", **kwargs})


def create_peer(
    network: type[PeerNetwork],
    variant: str,
    pretrained: bool,
    cache_dir: str | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] = (0, 1, 2, 3),
    **kwargs: Any,
) -> nn.Module:
    """Create the network of a registered entry point.

    Args:
        network: its class.
        variant: registered name of the network.
        pretrained: load the authors' weights from ``file`` or ``state_dict`` of ``pretrained_cfg_overlay``.
        cache_dir: folder for downloaded files, instead of timm's cache.
        features_only: return a network that outputs a list of feature maps, without norms of its own.
        out_indices: the stages, 0 to 3, whose maps are returned with ``features_only``.
        **kwargs: arguments from ``timm.create_model``, and arguments of the class.

    Raises:
        UserError: no weights are available, or they do not match.
    """
    if features_only:
        kwargs |= dict(num_classes=0, global_pool="")
    model = build_model_with_cfg(network, variant, pretrained=False, **kwargs)
    if pretrained:
        load_published(model, model.pretrained_cfg, cache_dir)
    if not features_only:
        return model
    features = FeatureGetterNet(model, out_indices=tuple(out_indices))
    features.pretrained_cfg = features.default_cfg = pretrained_cfg_for_features(model.pretrained_cfg)
    return features


def load_published(model: PeerNetwork, pretrained_cfg: Mapping, cache_dir: str | None = None) -> None:
    """Load the authors' checkpoint, for other numbers of classes and input channels too.

    Raises:
        UserError: no source, an unreadable file, or missing, unexpected or misshapen tensors.
    """
    tensors = model.convert_checkpoint(unwrap(read_source(pretrained_cfg, cache_dir)))
    own = model.state_dict()
    head = [name for name in tensors if name.startswith(f"{model.classifier}.")]
    if any(name not in own or own[name].shape != tensors[name].shape for name in head):
        for name in head:  # the classifier of another number of classes starts anew
            del tensors[name]
        tensors |= {name: own[name] for name in own if name.startswith(f"{model.classifier}.")}
    first = f"{pretrained_cfg['first_conv']}.weight"
    if first in tensors and tensors[first].shape[1] == 3 != own[first].shape[1]:
        tensors[first] = adapt_input_conv(own[first].shape[1], tensors[first])
    load_matching(model, tensors)

"""What timm asks of a network of four stages, whichever they are: layers, a classifier, dense features.

The networks add the stages: ``stages`` (an ``nn.ModuleList``), ``feature_info`` (a dict for each) and ``num_features``.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from timm.layers import ClassifierHead
from timm.models import FeatureInfo
from timm.models._features import feature_take_indices
from torch import Tensor, nn


class FourStages(nn.Module):
    """How the layers of a network are checkpointed, sorted and spared from weight decay."""

    stages: nn.ModuleList
    feature_info: Any
    num_features: int

    def set_grad_checkpointing(self, enable: bool = True, stages: int = 4) -> None:
        """Keep only each block's input for the backward pass and compute the rest again: less memory, more time.

        Args:
            enable: or keep everything again.
            stages: of how many stages from the first, which has the largest maps.
        """
        for i, stage in enumerate(self.stages):
            stage.grad_checkpointing = enable and i < stages

    def group_matcher(self, coarse: bool = False) -> dict:
        """Patterns that sort the parameters into layers from the input up, for layer-wise rates."""
        return dict(
            stem=r"^stages\.0\.patch_embed",
            blocks=r"^stages\.(\d+)"
            if coarse
            else [
                (r"^stages\.(\d+)\.(?:patch_embed|pos_bias)", (0,)),
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^norms?\.", (99999,)),
            ],
        )

    def no_weight_decay(self) -> set[str]:
        """Parameters with two or more dimensions that weight decay would pull to zero without reason: biases."""
        return {
            name for name, p in self.named_parameters() if p.ndim > 1 and name.endswith(("pos_bias.weight", ".bias"))
        }


class ClassifierForm(FourStages):
    """The stages, a norm, and a head that pools and classifies."""

    def add_head(self, num_classes: int, global_pool: str, drop_rate: float) -> None:
        """Make what comes after the stages. Arguments as in :class:`~transxnet.TransXNet`."""
        self.num_classes = num_classes
        self.norm = nn.GroupNorm(1, self.num_features)
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        self.head.apply(init_weights)

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised features of the last stage: (B, in_chans, H, W) -> (B, num_features, ⌈H/32⌉, ⌈W/32⌉)."""
        for stage in self.stages:
            x = stage(x)
        return self.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify: (B, num_features, H', W') -> (B, num_classes), or with pre_logits (B, num_features)."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The outputs of chosen stages, and the final features.

        Args:
            x: (B, in_chans, H, W).
            indices: stages 0 to 3, or how many of the last ones, or None for all.
            norm: apply the final norm to the last stage's output, the only one that it fits.
            stop_early: compute no stage after the last that is asked for.
            output_fmt: "NCHW".
            intermediates_only: leave the final features out.

        Returns:
            The stages' outputs (B, C, H', W') in order, preceded by the final features unless left out.

        Raises:
            ValueError: another output_fmt.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        take, last = feature_take_indices(len(self.stages), indices)
        intermediates = []
        for i, stage in enumerate(self.stages[: last + 1] if stop_early else self.stages):
            x = stage(x)
            if i in take:
                intermediates.append(self.norm(x) if norm and i == len(self.stages) - 1 else x)
        if intermediates_only:
            return intermediates
        return (self.norm(x) if i == len(self.stages) - 1 else x), intermediates

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last of ``indices``; on request the final norm and the head too."""
        take, last = feature_take_indices(len(self.stages), indices)
        self.stages = self.stages[: last + 1]
        if prune_norm or last + 1 < len(self.feature_info):
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return take

    def get_classifier(self) -> nn.Module:
        """The layer that maps pooled features to classes."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one, and on request the pooling before it."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)
        self.head.to(next(self.stages.parameters()))  # timm before 1.0.29 makes it in float32 on the CPU


class FeaturesForm(FourStages):
    """The stages, and a norm for each output that is asked for."""

    def add_norms(self, out_indices: Sequence[int]) -> None:
        """Drop the stages behind the last output and make the norms.

        Args:
            out_indices: as in :class:`~transxnet.TransXNetFeatures`.

        Raises:
            ValueError: stages that do not exist or are not in order.
        """
        taken = [i + 4 if i < 0 else i for i in out_indices]
        if not taken or taken != sorted(set(taken) & set(range(4))):
            raise ValueError(f"out_indices must be stages from 0 to 3 in ascending order, got {tuple(out_indices)}")
        self.num_classes = 0
        self.stages = self.stages[: taken[-1] + 1]
        self.norms = nn.ModuleDict({str(i): nn.GroupNorm(1, self.feature_info[i]["num_chs"]) for i in taken})
        self.feature_info = FeatureInfo(self.feature_info, taken)
        self.out_indices = tuple(taken)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                features.append(self.norms[str(i)](x))
        return features


def init_weights(module: nn.Module) -> None:
    """Weights of convolutions and linear layers from a truncated normal of std 0.02, their biases zero."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def check_per_stage(**values: Sequence) -> None:
    """Raise ValueError unless each holds four values."""
    for name, value in values.items():
        if len(value) != 4:
            raise ValueError(f"{name} must hold a value for each of the four stages, got {tuple(value)}")


def stochastic_depths(rate: float, depths: Sequence[int]) -> Iterator[float]:
    """Each block's rate in turn, growing linearly from 0 at the first to this at the last."""
    return iter(torch.linspace(0, rate, sum(depths), dtype=torch.float64, device="cpu").tolist())

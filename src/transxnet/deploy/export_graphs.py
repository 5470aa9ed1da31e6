"""Modules to trace: networks with one image input and tensor outputs."""

import torch
from torch import Tensor, nn

from transxnet.heads import SemanticFPN


class InputNormalization(nn.Module):
    """Convert the input of an exported file to the input of the network.

    Args:
        mean: mean of each channel, for values in 0 to 1.
        std: standard deviation of each channel.
        uint8: take uint8 images and normalize them.
        dtype: data type of the network.

    Shapes:
        uint8 (N, H, W, 3), or normalized float32 (N, 3, H, W) -> (N, 3, H, W).
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], uint8: bool, dtype: torch.dtype):
        super().__init__()
        self.uint8, self.dtype = uint8, dtype
        spread = torch.tensor(std, dtype=torch.float64)
        scale, shift = 1 / (255 * spread), -torch.tensor(mean, dtype=torch.float64) / spread
        self.register_buffer("scale", scale.float().view(-1, 1, 1))
        self.register_buffer("shift", shift.float().view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        if self.uint8:
            images = images.permute(0, 3, 1, 2).float() * self.scale + self.shift
        return images.to(self.dtype)


class ClassifierGraph(nn.Module):
    """Images -> logits (N, K) float32."""

    def __init__(self, normalize: InputNormalization, network: nn.Module):
        super().__init__()
        self.normalize, self.network = normalize, network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.normalize(images)).float()


class FeaturesGraph(nn.Module):
    """Images -> the feature map (N, C, H', W') float32 of each stage.

    Args:
        normalize: input normalization.
        network: a classifier with timm's ``forward_intermediates``, whose stage outputs are returned, or a network that
            returns a list of feature maps.
    """

    def __init__(self, normalize: InputNormalization, network: nn.Module):
        super().__init__()
        self.normalize, self.network = normalize, network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.normalize(images)
        if hasattr(self.network, "forward_intermediates"):
            maps = self.network.forward_intermediates(x, intermediates_only=True)
        else:
            maps = self.network(x)
        return tuple(each.float() for each in maps)


class SegmenterGraph(nn.Module):
    """Images in 0 to 1 -> logits (N, K, H, W) float32."""

    def __init__(self, normalize: InputNormalization, network: SemanticFPN):
        super().__init__()
        self.normalize, self.network = normalize, network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.normalize(images)).float()

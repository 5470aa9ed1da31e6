"""Semantic FPN, a head for semantic segmentation."""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from transxnet.heads.detector_transform import at_least_float32, float_images, mean_and_std
from transxnet.heads.pyramid import PYRAMID_CHANNELS, PyramidBackbone

SIZE_DIVISOR = 32


class SemanticFPNHead(nn.Module):
    """Upsample each level to the finest one's size in steps of 2, and classify their sum.

    A level of stride 4 takes one 3x3 convolution with BatchNorm and ReLU; levels of stride 8, 16 and 32 take one, two
    and three, each followed by bilinear 2x upsampling. Then dropout and a 1x1 convolution to the classes.

    Args:
        num_classes: K.
        channels: channels of the convolutions.
        drop_rate: dropout rate of the channels.

    Shapes:
        four maps (B, 256, H / s, W / s), s = 4, 8, 16, 32, with H and W multiples of 32 -> (B, K, H / 4, W / 4).

    Source:
        Kirillov et al., "Panoptic Feature Pyramid Networks", Sec. 3, with the settings of mmsegmentation 0.x.
    """

    def __init__(self, num_classes: int, channels: int = 128, drop_rate: float = 0.1):
        super().__init__()
        self.scale_heads = nn.ModuleList()
        for doublings in range(4):
            layers: list[nn.Module] = []
            for i in range(max(1, doublings)):
                layers.append(Conv2dNormActivation(PYRAMID_CHANNELS if i == 0 else channels, channels))
                if doublings:
                    layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.scale_heads.append(nn.Sequential(*layers))
        self.dropout = nn.Dropout2d(drop_rate)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        for module in self.scale_heads.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute logits at a quarter of the image's size."""
        levels = [head(feature) for head, feature in zip(self.scale_heads, features, strict=True)]
        return self.classifier(self.dropout(reduce(torch.add, levels)))


class SemanticFPN(nn.Module):
    """Semantic FPN on the feature maps of all four stages, as in the paper's experiments (Sec. IV-C).

    Args:
        body: outputs feature maps of strides 4, 8, 16 and 32, such as
            ``create_model("transxnet_t", features_only=True)``.
        num_classes: K, including the background if it is a class.
        ignore_index: label of ignored pixels.

    Shapes:
        images (B, 3, H, W), RGB in 0 to 1, of any size -> logits (B, K, H, W) in float32; with targets, int64
        (B, H, W) from 0 to K - 1 or ``ignore_index``, the loss "cross_entropy", averaged over all pixels, where
        ignored pixels count as zero.

    Raises:
        UserError: the body lacks one of the strides.
        ValueError: images or targets are not as above, or :class:`PyramidBackbone` rejects them.

    Note:
        The image is padded to multiples of 32 at the right and the bottom. The published results were measured on
        images resized to such sides, without padding.

    Source:
        Kirillov et al., "Panoptic Feature Pyramid Networks", with the settings of mmsegmentation 0.x.
    """

    class_layers = ("head.classifier",)
    """Layers whose size depends on the number of classes."""

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, num_classes: int, ignore_index: int = 255):
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.backbone = PyramidBackbone(body, (4, 8, 16, 32))
        self.head = SemanticFPNHead(num_classes)
        for name, values in zip(("mean", "std"), mean_and_std(body), strict=True):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor, targets: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        """Return logits or, with targets, the loss."""
        if images.ndim != 4 or not images.is_floating_point():
            kind = str(images.dtype).removeprefix("torch.")
            raise ValueError(
                f"images must be a float tensor (B, 3, H, W) with values in 0 to 1, got {kind} {tuple(images.shape)}."
            )
        if targets is not None and (targets.dtype != torch.int64 or targets.shape != images[:, 0].shape):
            kind = str(targets.dtype).removeprefix("torch.")
            raise ValueError(
                f"targets must be int64 {tuple(images[:, 0].shape)}, one label per pixel, got {kind} "
                f"{tuple(targets.shape)}."
            )
        height, width = images.shape[2:]
        padding = (0, -width % SIZE_DIVISOR, 0, -height % SIZE_DIVISOR)
        p2, p3, p4, p5 = self.backbone(F.pad((images - self.mean) / self.std, padding)).values()
        logits = at_least_float32(self.head([p2, p3, p4, p5]))
        logits = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)[..., :height, :width]
        if targets is None:
            return logits
        losses = F.cross_entropy(logits, targets, ignore_index=self.ignore_index, reduction="sum")
        return {"cross_entropy": losses / targets.numel()}


def logits_at_size(model: torch.nn.Module, image: Tensor, size: tuple[int, ...]) -> Tensor:
    """Predict logits for one image at another size: (C, h, w) -> (1, K, H, W) for the size (H, W).

    As for the published results, the logits are resized bilinearly, not the predicted classes.
    """
    logits = model(torch.stack(float_images([image])))
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)

"""Small backbones of three kinds for the tests of the heads."""

import timm
from torch import nn

from transxnet import TransXNetFeatures


def tiny_transxnet(out_indices: tuple[int, ...]) -> nn.Module:
    return TransXNetFeatures(
        out_indices, depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2), img_size=64
    )


def tiny_resnet(out_indices: tuple[int, ...]) -> nn.Module:
    taken = [i + 1 for i in out_indices]  # its first map has stride 2
    size = dict(channels=(16, 16, 32, 32), zero_init_last=False)
    return timm.create_model("resnet10t", features_only=True, out_indices=taken, **size)


def tiny_swin(out_indices: tuple[int, ...]) -> nn.Module:
    size = dict(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))
    return timm.create_model(
        "swin_tiny_patch4_window7_224", features_only=True, out_indices=out_indices, strict_img_size=False, **size
    )


BODIES = {"transxnet": tiny_transxnet, "resnet": tiny_resnet, "swin": tiny_swin}

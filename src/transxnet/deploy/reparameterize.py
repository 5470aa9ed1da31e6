"""Reparameterize a network for inference: the same function with fewer operations, without BatchNorm."""

import copy
from math import ceil

from torch import nn

from transxnet.deploy.conv_folding import fold_norm
from transxnet.deploy.inference_layers import InferenceBlock
from transxnet.deploy.position_bias_rows import InferencePositionBias
from transxnet.layers import DPE, MSFFN, STE, Block, IDConv, PatchEmbed
from transxnet.layers.checks import check_positive
from transxnet.layers.osra import OverlappingSpatialReduction
from transxnet.models import TransXNet, TransXNetFeatures
from transxnet.utils.errors import UserError


def reparameterize(model: nn.Module, img_size: int | tuple[int, int] | None = None) -> nn.Module:
    """Create an equivalent network for inference, with fewer operations.

    Folds BatchNorms into convolutions wherever zero padding allows it, the identities of DPE, local refinement and
    MS-FFN into the kernels' centers, LayerScale and the second norm's weights into projections; IDConv's kernel and
    bias come from one projection. Folding is done in float64, so outputs are equal up to rounding.

    The result has the same class and methods and stays in inference form: ``train()`` changes no result, and no
    parameter requires gradients. A network that is already reparameterized is copied, with the new img_size if given.

    Args:
        model: a :class:`TransXNet` or :class:`TransXNetFeatures`; not modified. Any attn_ratio is accepted, and any
            ffn_scales except (); with other parts than the paper's there is no inference form.
        img_size: input size (height and width, or one for both) for which the resized position bias is stored;
            otherwise a compiled or exported network resizes it in every pass. Other sizes still work. Omit it for large
            images on a CPU without a compiler: the bias is then computed in chunks, and storing it whole takes 0.4 GB
            more (TransXNet-T at 800x1280).

    Returns:
        The network, on the model's device and in its precision.

    Raises:
        UserError: another kind of model, or a model with other parts.
        ValueError: an img_size that is not positive.
    """
    if not isinstance(model, TransXNet | TransXNetFeatures):
        raise UserError(
            f"reparameterize takes a TransXNet or a TransXNetFeatures, got {type(model).__name__}. Pass the network "
            "itself, before torch.compile or another wrapper."
        )
    for stage in model.stages:
        for block in stage.blocks:
            if isinstance(block, Block):  # otherwise it is already reparameterized
                check_parts(block)
    model = copy.deepcopy(model)
    for stage in model.stages:
        if isinstance(stage.patch_embed, PatchEmbed):  # otherwise it is already folded
            stage.patch_embed = fold_norm(stage.patch_embed)
            stage.pos_bias = InferencePositionBias(stage.pos_bias)
            stage.blocks = nn.ModuleList(InferenceBlock(block) for block in stage.blocks)
            stage.grad_checkpointing = False
    if isinstance(model, TransXNet):
        model.head.drop = nn.Identity()
    if img_size is not None:
        keep_position_bias(model, img_size)
    return model.requires_grad_(False).eval()


def keep_position_bias(model: TransXNet | TransXNetFeatures, img_size: int | tuple[int, int]) -> None:
    """Store the position bias of every stage of a reparameterized network, resized for this input size."""
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    check_positive(height=height, width=width)
    for stage in model.stages:
        step = stage.patch_embed.stride[0]
        height, width = ceil(height / step), ceil(width / step)
        size = (height * width, ceil(height / stage.sr_ratio) * ceil(width / stage.sr_ratio))
        stage.pos_bias = InferencePositionBias(stage.pos_bias, size)


def check_parts(block: Block) -> None:
    """Raise UserError, naming the option and its required value, unless the block has the paper's own parts."""
    reduction = block.mixer.osra.reduction
    parts = [
        ("dpe", "True", block.dpe, (DPE,)),
        ("local_conv", "'idconv'", block.mixer.idconv, (IDConv,)),
        ("token_enhancer", "'ste'", block.mixer.ste, (STE,)),
        ("ffn_scales", "at least one kernel size", block.ffn, (MSFFN,)),
        ("spatial_reduction", "'overlapping'", reduction, (OverlappingSpatialReduction, nn.Identity)),
    ]
    for option, wanted, part, kinds in parts:
        if type(part) not in kinds:  # a subclass may compute something else
            raise UserError(
                f"reparameterize requires {option} to be {wanted}; this network has {type(part).__name__}. Use the "
                "network in eval mode without reparameterization."
            )

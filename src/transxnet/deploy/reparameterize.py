"""An equal network for inference: fewer operations, no BatchNorm, nothing that training needs."""

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
    """Make an equal network for inference, of fewer operations.

    BatchNorms go into convolutions wherever zero padding allows, the identities of DPE, of the local refinement and of
    MS-FFN into the kernels' centres, LayerScale and the second norm's weights into projections; IDConv's kernel and
    bias come from one projection. Folded in float64, so the outputs are equal up to rounding.

    The result is of the same class with the same methods, and evaluates for good: ``train()`` changes no result, and no
    parameter wants a gradient. One that was made before comes back as a copy, with the new img_size if there is one.

    Args:
        model: a :class:`TransXNet` or :class:`TransXNetFeatures`; left untouched. Its attn_ratio may be any, and its
            ffn_scales any but (); with other parts in the place of the paper's there is no inference form.
        img_size: input size (height and width, or one for both) to keep the position bias resized for; a compiled or
            exported network otherwise resizes it in every pass. Other sizes work as before. Leave it out for large
            images on a CPU without a compiler: there the bias is made by pieces, and keeping it whole takes 0.4 GB more
            (TransXNet-T at 800x1280).

    Returns:
        The network, on the model's device and in its precision.

    Raises:
        UserError: another kind of model, or one with other parts.
        ValueError: an img_size that is not positive.
    """
    if not isinstance(model, TransXNet | TransXNetFeatures):
        raise UserError(
            f"reparameterize takes a TransXNet or a TransXNetFeatures, got {type(model).__name__}. Pass the network "
            "itself, before torch.compile or another wrapper."
        )
    for stage in model.stages:
        for block in stage.blocks:
            if isinstance(block, Block):  # or it was made before
                check_parts(block)
    model = copy.deepcopy(model)
    for stage in model.stages:
        if isinstance(stage.patch_embed, PatchEmbed):  # or it was made before
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
    """Have every stage of a reparameterized network keep its position bias resized for this input size."""
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    check_positive(height=height, width=width)
    for stage in model.stages:
        step = stage.patch_embed.stride[0]
        height, width = ceil(height / step), ceil(width / step)
        size = (height * width, ceil(height / stage.sr_ratio) * ceil(width / stage.sr_ratio))
        stage.pos_bias = InferencePositionBias(stage.pos_bias, size)


def check_parts(block: Block) -> None:
    """Raise UserError, naming the option and what it should be, unless the block's parts are the paper's own."""
    reduction = block.mixer.osra.reduction
    parts = [
        ("dpe", "True", block.dpe, (DPE,)),
        ("local_conv", "'idconv'", block.mixer.idconv, (IDConv,)),
        ("token_enhancer", "'ste'", block.mixer.ste, (STE,)),
        ("ffn_scales", "at least one", block.ffn, (MSFFN,)),
        ("spatial_reduction", "'overlapping'", reduction, (OverlappingSpatialReduction, nn.Identity)),
    ]
    for option, wanted, part, kinds in parts:
        if type(part) not in kinds:  # one that derives from it may compute something else
            raise UserError(
                f"reparameterize folds the paper's own parts, and this network has {type(part).__name__} by its option "
                f"{option}, which would have to be {wanted}. Use the network as it is, in eval mode."
            )

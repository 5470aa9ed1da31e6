"""Trading time for memory: activations computed again in the backward pass."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from transxnet.layers import Block


def checkpoint_block(block: Block, x: Tensor, pos_bias: Tensor) -> Tensor:
    """The block's output, with its inside computed again in the backward pass.

    The second pass must not feed the batch to the BatchNorms' running statistics a second time. A compiler, which
    cannot trace the context for that, needs none: it recomputes values, not changes of buffers.
    """
    if torch.compiler.is_compiling():
        return checkpoint(block, x, pos_bias, use_reentrant=False)
    return checkpoint(
        block, x, pos_bias, use_reentrant=False, context_fn=lambda: (nullcontext(), running_statistics_held(block))
    )


@contextmanager
def running_statistics_held(module: nn.Module) -> Iterator[None]:
    """While this is open, training passes leave the BatchNorms' running statistics and counters as they are."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counter

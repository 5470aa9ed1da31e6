"""Input-dependent kernels and attention: how much they vary between images, in each D-Mixer."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn

from transxnet.analysis.network_parts import record_calls
from transxnet.layers import DMixer
from transxnet.utils.errors import UserError


@dataclass(frozen=True)
class MixerDynamics:
    """One D-Mixer's kernels and attention for N images.

    Attributes:
        name: name of the D-Mixer among the network's modules, such as "stages.3.blocks.2.mixer".
        kernels: (N, C, K, K) float32, generated for each image.
        attention: (N, h, P, M) float32, from P positions to M keys; rows sum to 1.
        size: height and width of the grid of P positions.
        key_size: height and width of the grid of M keys.
    """

    name: str
    kernels: np.ndarray
    attention: np.ndarray
    size: tuple[int, int]
    key_size: tuple[int, int]

    @property
    def kernel_variation(self) -> float:
        """See :func:`kernel_variation`."""
        return kernel_variation(self.kernels)

    @property
    def attention_variation(self) -> float:
        """See :func:`attention_variation`."""
        return attention_variation(self.attention)


@dataclass(frozen=True)
class Dynamics:
    """Input-dependent kernels and attention of a network.

    Attributes:
        label: the network, as the user named it.
        untrained: whether its weights are random.
        paths: paths of the N image files.
        images: (N, H, W, 3) uint8, the preprocessed images.
        mixers: its D-Mixers, from input to output.
    """

    label: str
    untrained: bool
    paths: list[str]
    images: np.ndarray
    mixers: list[MixerDynamics]


def kernel_variation(kernels: np.ndarray) -> float:
    """Relative deviation of the kernels from their mean over the inputs.

    Args:
        kernels: (N, ...) for N inputs.

    Returns:
        ``sqrt(sum_n |K_n - mean K|^2 / sum_n |K_n|^2)``, from 0 (the same kernels for every input, as in an ordinary
        convolution) to 1 (nothing in common: their mean is zero). Two orthogonal kernels of equal norm have the square
        root of a half.
    """
    wide = kernels.astype(np.float64)
    energy = (wide**2).sum()
    return float(np.sqrt(((wide - wide.mean(axis=0)) ** 2).sum() / energy)) if energy else 0.0


def attention_variation(attention: np.ndarray) -> float:
    """Fraction of the attention that moves to other keys for another input.

    Args:
        attention: (N, h, P, M) for N inputs, rows sum to 1.

    Returns:
        ``sum_m |A_i - A_j| / 2``, the total variation between the rows of two inputs, averaged over heads, positions
        and pairs of inputs: from 0 (the same attention for every input) to 1 (no keys in common).
    """
    wide = attention.astype(np.float64)
    pairs = list(combinations(range(len(wide)), 2))
    return float(np.mean([np.abs(wide[i] - wide[j]).sum(axis=-1).mean() / 2 for i, j in pairs])) if pairs else 0.0


@torch.no_grad()
def mixer_dynamics(network: nn.Module, images: Tensor) -> list[MixerDynamics]:
    """Compute the kernels and the attention of all D-Mixers of a network.

    Args:
        network: in evaluation mode.
        images: (N, 3, H, W), normalized, on its device.

    Raises:
        UserError: no D-Mixer of the network has a local branch that generates kernels.
    """
    mixers = {name: module for name, module in network.named_modules() if isinstance(module, DMixer)}
    mixers = {name: mixer for name, mixer in mixers.items() if hasattr(mixer.idconv, "kernels")}
    if not mixers:
        raise UserError(
            f"{type(network).__name__} generates no kernels. Accepted: networks with D-Mixers, such as transxnet_t, "
            "with local_conv idconv, dyconv or d_dwconv."
        )
    parts = [part for mixer in mixers.values() for part in (mixer.idconv, mixer.osra)]
    with record_calls(*parts) as calls:
        network(images)
    found = []
    for (name, mixer), local, distant in zip(mixers.items(), calls[::2], calls[1::2], strict=True):
        generated = mixer.idconv.kernels(local.inputs[-1][0])
        kernels = generated[0] if isinstance(generated, tuple) else generated
        x, pos_bias = distant.inputs[-1]
        attention = mixer.osra.attention(x, pos_bias)
        size, key_size = (tuple(t.shape[2:]) for t in (x, mixer.osra.reduction(x)))
        found.append(MixerDynamics(name, _to_numpy(kernels), _to_numpy(attention), size, key_size))
    return found


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()

"""What the input changes: the kernels that IDConv generates and OSRA's attention, for several images side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from transxnet.analysis.figure_files import as_bytes, check_free
from transxnet.analysis.network_parts import watched
from transxnet.data.image_files import find_images
from transxnet.data.images import UnreadableImage, open_image
from transxnet.data.transforms import Transform
from transxnet.layers import DMixer
from transxnet.models.model_spec import parse_model_spec
from transxnet.runs.load import load_model
from transxnet.utils.device import default_device
from transxnet.utils.errors import UserError

FILES = ("dynamics.png", "dynamics.csv", "dynamics.json")


@dataclass(frozen=True)
class MixerDynamics:
    """One D-Mixer's kernels and attention for N images.

    Attributes:
        name: of the D-Mixer among the network's modules, such as "stages.3.blocks.2.mixer".
        kernels: (N, C, K, K) float32, generated for each image.
        attention: (N, h, P, M) float32, from P positions to M keys, rows adding up to 1.
        size: height and width of the P positions.
        key_size: height and width of the M keys.
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
    """What the input changes in a network.

    Attributes:
        label: the network, as the user named it.
        untrained: whether its weights are random.
        paths: of the N images' files.
        pictures: (N, H, W, 3) bytes, the images as the network saw them.
        mixers: its D-Mixers, from the input up.
    """

    label: str
    untrained: bool
    paths: list[str]
    pictures: np.ndarray
    mixers: list[MixerDynamics]


def kernel_variation(kernels: np.ndarray) -> float:
    """How far the kernels depart from what they are for every input, against their own size.

    Args:
        kernels: (N, ...) of N inputs.

    Returns:
        ``sqrt(sum_n |K_n - mean K|^2 / sum_n |K_n|^2)``, from 0, the same kernels for every input as in an ordinary
        convolution, to 1, nothing in common: their mean is zero. Two kernels that are orthogonal and of equal norm have
        the square root of a half.
    """
    wide = kernels.astype(np.float64)
    energy = (wide**2).sum()
    return float(np.sqrt(((wide - wide.mean(axis=0)) ** 2).sum() / energy)) if energy else 0.0


def attention_variation(attention: np.ndarray) -> float:
    """Which share of the attention goes elsewhere for another input.

    Args:
        attention: (N, h, P, M) of N inputs, rows adding up to 1.

    Returns:
        ``sum_m |A_i - A_j| / 2``, the total variation between the rows of two inputs, in the mean over heads, positions
        and pairs of inputs: from 0, the same attention for every input, to 1, never to the same keys.
    """
    wide = attention.astype(np.float64)
    pairs = list(combinations(range(len(wide)), 2))
    return float(np.mean([np.abs(wide[i] - wide[j]).sum(axis=-1).mean() / 2 for i, j in pairs])) if pairs else 0.0


@torch.no_grad()
def mixer_dynamics(network: nn.Module, images: Tensor) -> list[MixerDynamics]:
    """The kernels and the attention of all of a network's D-Mixers.

    Args:
        network: in evaluation mode.
        images: (N, 3, H, W), normalised, on its device.

    Raises:
        UserError: the network has no D-Mixer whose local branch generates kernels.
    """
    mixers = {name: module for name, module in network.named_modules() if isinstance(module, DMixer)}
    mixers = {name: mixer for name, mixer in mixers.items() if hasattr(mixer.idconv, "kernels")}
    if not mixers:
        raise UserError(
            f"{type(network).__name__} generates no kernels. Accepted: networks with D-Mixers, such as transxnet_t, "
            "with local_conv idconv, dyconv or d_dwconv."
        )
    parts = [part for mixer in mixers.values() for part in (mixer.idconv, mixer.osra)]
    with watched(*parts) as calls:
        network(images)
    found = []
    for (name, mixer), local, distant in zip(mixers.items(), calls[::2], calls[1::2], strict=True):
        generated = mixer.idconv.kernels(local.inputs[-1][0])
        kernels = generated[0] if isinstance(generated, tuple) else generated
        x, pos_bias = distant.inputs[-1]
        attention = mixer.osra.attention(x, pos_bias)
        size, key_size = (tuple(t.shape[2:]) for t in (x, mixer.osra.reduction(x)))
        found.append(MixerDynamics(name, _array(kernels), _array(attention), size, key_size))
    return found


def dynamics(
    model: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = "dynamics",
    file: str | Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> Dynamics:
    """Show how far IDConv's kernels and OSRA's attention go by the input, for two images or more.

    Written are ``dynamics.png``, the kernels and the attention of each stage's last D-Mixer for each image, and how
    much they vary in every D-Mixer as ``dynamics.csv`` and ``dynamics.json``: :func:`kernel_variation` and
    :func:`attention_variation`, both from 0 (static) to 1. Nothing is written where ``out`` is None.

    Args:
        model: a run folder; or a model's name, after which may come, as of ``transxnet erf``, @ with settings.
        images: files, folders (searched to any depth) and globs, two images or more.
        out: folder for the results.
        file: weights on disk, for a model by name.
        overwrite: write over results of before.
        console: where to report; by default standard output.

    Raises:
        UserError: no such model, one that generates no kernels, fewer than two images or one that can't be read, or
            results that exist already.
    """
    from transxnet.analysis.dynamics_report import table, write

    console = console or Console()
    if out is not None:
        check_free(Path(out), FILES, overwrite)
    paths = list(find_images([images] if isinstance(images, (str, Path)) else list(images)))
    if len(paths) < 2:
        raise UserError(f"what varies shows on two images or more, got {len(paths)}.")
    spec = parse_model_spec(model, file)
    if spec.part:
        raise UserError(f"all D-Mixers are looked at, so leave out the place {spec.part!r}.")
    trained = load_model(spec, analysis=True)
    device, made = default_device(), trained.backbone_preprocessing
    batch = torch.stack([_read(path, made.transform()) for path in paths]).to(device)
    mixers = mixer_dynamics(trained.backbone.to(device), batch)
    pictures = np.stack([as_bytes(image, made.mean, made.std) for image in batch])
    result = Dynamics(trained.name, trained.untrained, paths, pictures, mixers)
    console.print(table(result), highlight=False)
    if out is not None:
        for path in write(result, Path(out)):
            console.print(f"  {path}", highlight=False, markup=False, soft_wrap=True)
    return result


def _read(path: str, transform: Transform) -> Tensor:
    try:
        return transform(open_image(path))
    except UnreadableImage as error:
        raise UserError(f"{path} can't be read: {error}.") from error


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()

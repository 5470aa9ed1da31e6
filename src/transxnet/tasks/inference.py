"""Running a trained model over images."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from transxnet.data.image_set import ImageSet
from transxnet.data.module import evaluation_loader
from transxnet.data.readers import Stream
from transxnet.data.transforms import Transform
from transxnet.tasks.evaluation import Evaluation


def default_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def placed(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on the device, in evaluation mode, its weights laid out for convolutions."""
    return model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


@torch.inference_mode()
def probabilities(model: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Softmax probabilities (B, C) float32 on the CPU of images (B, 3, S, S), by a model that is on the device."""
    return model(images.to(device, memory_format=torch.channels_last)).float().softmax(dim=1).cpu()


def evaluate_model(
    model: nn.Module,
    images: ImageSet | Stream,
    transform: Transform,
    batch_size: int,
    workers: int,
    device: torch.device | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """What a classifier says about labelled images.

    Args:
        model: (B, 3, S, S) -> (B, C), moved to the device.
        images: with the model's classes.
        transform: from a picture to the model's input.
        batch_size: images at once.
        workers: processes that decode.
        device: where to compute; by default the GPU if there is one.
        progress: called with the number of images done.
    """
    device = device or default_device()
    model = placed(model, device)
    results, done = [], 0
    for batch, labels, positions in evaluation_loader(images, transform, batch_size, workers):
        results.append((probabilities(model, batch, device), labels, positions))
        done += len(batch)
        if progress is not None:
            progress(done)
    predicted, labels, positions = (torch.cat(parts).numpy() for parts in zip(*results, strict=True))
    if isinstance(images, ImageSet):
        names, weights = [images.name(i) for i in positions], images.own_weights
    else:
        names, weights = [str(i) for i in positions], None
    return Evaluation(
        class_names=list(images.class_names),
        names=names,
        labels=labels,
        probabilities=predicted,
        weights=None if weights is None else weights[positions],
    )

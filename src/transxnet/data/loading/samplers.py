"""Samplers: order and random seeds of the images in each training epoch."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import Sampler


def world() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


class EpochSampler(Sampler[tuple[int, int]]):
    """A seeded shuffle for each epoch, sharded over the processes in whole batches.

    Order and augmentation depend only on (seed, epoch, position), so a resumed run continues exactly as an
    uninterrupted one. The tail that does not fill a batch on every process is dropped; each epoch shuffles anew.

    Args:
        size: number of images.
        batch_size: images per batch and process.
        seed: seed of the run.

    Yields:
        (position, seed of the image's augmentation).
    """

    def __init__(self, size: int, batch_size: int, seed: int):
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.resume(epoch=0, batches_done=0)

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch's shuffle; Lightning calls this before each epoch."""
        self.epoch = epoch

    def resume(self, epoch: int, batches_done: int) -> None:
        """Resume this epoch after the batches that are done, or start the next epoch if all are.

        The epoch is set here: Lightning starts the loader's workers before it calls ``set_epoch``.
        """
        if 0 < len(self) <= batches_done * self.batch_size:
            epoch, batches_done = epoch + 1, 0
        self.epoch = self.resumed_epoch = epoch
        self.batches_done = batches_done

    def __len__(self) -> int:
        return self.size // (self.batch_size * world()[1]) * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rank, processes = world()
        generator = np.random.default_rng([self.seed, self.epoch])
        order = self._order(generator, self.batch_size * processes)
        seeds = generator.integers(0, 2**63 - 1, self.size)
        own = np.arange(rank, len(self) * processes, processes)
        if self.epoch == self.resumed_epoch:
            own = own[self.batches_done * self.batch_size :]
        for i in own:
            yield int(order[i]), int(seeds[i])

    def _order(self, generator: np.random.Generator, step: int) -> np.ndarray:
        """The epoch's shuffle; ``step`` is the number of images in a batch over all processes."""
        return generator.permutation(self.size)


class AspectRatioSampler(EpochSampler):
    """An :class:`EpochSampler` whose global batches hold only landscape images or only the others.

    Images that do not fill such a batch go into mixed batches at the end, so an epoch is as long as without grouping;
    what does not fill one of these is dropped. The loader's ``batch_size`` must equal the sampler's, so that
    consecutive positions form the batches.

    Args:
        sizes: (N, 2) height and width of the images.
        batch_size: images per batch and process.
        seed: seed of the run.

    Yields:
        (position, seed of the image's augmentation).
    """

    def __init__(self, sizes: np.ndarray, batch_size: int, seed: int):
        self.wide = sizes[:, 1] > sizes[:, 0]
        super().__init__(len(sizes), batch_size, seed)

    def _order(self, generator: np.random.Generator, step: int) -> np.ndarray:
        """The shuffle in steps of one kind, each placed at its last image, then the remaining images."""
        order = super()._order(generator, step)
        whole: list[tuple[int, np.ndarray]] = []
        left: list[np.ndarray] = []
        for kind in (False, True):
            places = np.flatnonzero(self.wide[order] == kind)
            full = len(places) // step * step
            whole += [(batch[-1], batch) for batch in places[:full].reshape(-1, step)]
            left.append(places[full:])
        steps = [batch for _, batch in sorted(whole, key=lambda pair: pair[0])]
        return order[np.concatenate([*steps, np.sort(np.concatenate(left))])]


class WeightedSampler(EpochSampler):
    """An :class:`EpochSampler` that draws the images of each epoch with replacement.

    Args:
        probabilities: (N,) probability of each image; their sum is 1.
        batch_size: images per batch and process.
        seed: seed of the run.

    Yields:
        (position, seed of the image's augmentation).
    """

    def __init__(self, probabilities: np.ndarray, batch_size: int, seed: int):
        self.probabilities = probabilities
        super().__init__(len(probabilities), batch_size, seed)

    def _order(self, generator: np.random.Generator, step: int) -> np.ndarray:
        """The images drawn for the epoch."""
        return generator.choice(self.size, self.size, p=self.probabilities)


class ShareSampler(Sampler[int]):
    """Every image once, in order, sharded over the processes without padding."""

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        rank, processes = world()
        return len(range(rank, self.size, processes))

    def __iter__(self) -> Iterator[int]:
        rank, processes = world()
        return iter(range(rank, self.size, processes))


def step_seed(seed: int, step: int) -> int:
    """The seed of one training step on this process, for mixup, stochastic depth and dropout."""
    return int(np.random.default_rng([seed, step, world()[0]]).integers(0, 2**31 - 1))


def seed_step(seed: int, step: int) -> None:
    """Seed this step's randomness from the run's seed and the step's number."""
    value = step_seed(seed, step)
    np.random.seed(value)
    torch.manual_seed(value)

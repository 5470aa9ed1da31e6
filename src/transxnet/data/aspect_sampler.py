"""Batches of images that are all upright or all lying, so that little of them is padding."""

from collections.abc import Iterator

import numpy as np

from transxnet.data.sampler import EpochSampler, world


class AspectRatioSampler(EpochSampler):
    """An :class:`EpochSampler` whose every batch, over all processes, is of images wider than high or of the others.

    What does not fill a batch of one kind goes into mixed batches at the epoch's end, so that an epoch is as long as
    without grouping; what does not fill one of these is left out. With a loader's ``batch_size`` equal to the
    sampler's, consecutive positions make the batches.

    Args:
        sizes: (N, 2) height and width of the images.
        batch_size: images a batch and process.
        seed: of the run.

    Yields:
        (position, seed of the image's augmentation).
    """

    def __init__(self, sizes: np.ndarray, batch_size: int, seed: int):
        self.wide = sizes[:, 1] > sizes[:, 0]
        super().__init__(len(sizes), batch_size, seed)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rank, processes = world()
        generator = np.random.default_rng([self.seed, self.epoch])
        order = self._grouped(generator.permutation(self.size), self.batch_size * processes)
        seeds = generator.integers(0, 2**63 - 1, self.size)
        own = np.arange(rank, len(self) * processes, processes)
        if self.epoch == self.resumed_epoch:
            own = own[self.batches_done * self.batch_size :]
        for i in own:
            yield int(order[i]), int(seeds[i])

    def _grouped(self, order: np.ndarray, step: int) -> np.ndarray:
        """The shuffle in steps of one kind, each where its last image stood, and what is left over."""
        whole: list[tuple[int, np.ndarray]] = []
        left: list[np.ndarray] = []
        for kind in (False, True):
            places = np.flatnonzero(self.wide[order] == kind)
            full = len(places) // step * step
            whole += [(batch[-1], batch) for batch in places[:full].reshape(-1, step)]
            left.append(places[full:])
        steps = [batch for _, batch in sorted(whole, key=lambda pair: pair[0])]
        return order[np.concatenate([*steps, np.sort(np.concatenate(left))])]

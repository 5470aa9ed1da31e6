"""Stop a training within an epoch."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from transxnet.training.callbacks import GracefulStop
from transxnet.utils.errors import Interrupted


@contextmanager
def stopped_before(step: int) -> Iterator[None]:
    """Expect the training of this context to stop before a step, counted from 0 over all epochs, as on Ctrl-C."""

    def stop(self, trainer, module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx == step:
            self._handle(2, None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GracefulStop, "on_train_batch_start", stop)
        with pytest.raises(Interrupted):
            yield

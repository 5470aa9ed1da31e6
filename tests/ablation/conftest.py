"""A small ablation that the tests share."""

import pytest

from tests.helpers.ablation_options import OPTIONS
from tests.helpers.class_folders import write_photos
from transxnet.ablation.ablate import ablate
from transxnet.training.lightning_module import TrainingModule


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "photos", 9)


@pytest.fixture(scope="session")
def batches():
    """The positions of each training batch, by the model that was trained and its seed."""
    return {}


@pytest.fixture(scope="session")
def whole(data, batches, quiet, tmp_path_factory):
    """An ablation that nothing interrupted."""
    record = TrainingModule.training_step

    def step(self, batch, batch_idx):
        drawn = (batch[2].tolist(), batch[0].sum().item())
        batches.setdefault((self.config.model, self.config.seed), []).append(drawn)
        return record(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", step)
        return ablate("table7", data, out=tmp_path_factory.mktemp("ablation") / "whole", console=quiet, **OPTIONS)

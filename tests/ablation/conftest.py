"""A small ablation shared by the tests."""

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
    """The image indices of each training batch, by trained model and seed."""
    return {}


@pytest.fixture(scope="session")
def whole(data, batches, quiet, tmp_path_factory):
    """An uninterrupted ablation."""
    record = TrainingModule.training_step

    def step(self, batch, batch_idx):
        drawn = (batch[2].tolist(), batch[0].sum().item())
        batches.setdefault((self.config.model, self.config.seed), []).append(drawn)
        return record(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", step)
        return ablate("table7", data, out=tmp_path_factory.mktemp("ablation") / "whole", console=quiet, **OPTIONS)

import numpy as np
import pytest

from tests.helpers.dense_data import QUICK
from transxnet.data import read_sets, recognize
from transxnet.data.samples.builtin_samples import DenseSample
from transxnet.runs.task_configs import DetectConfig, SegmentConfig
from transxnet.training.make_plan import make_plan


@pytest.mark.parametrize("hflip", [0.0, 0.5])
def test_flip_and_size_follow_the_sample(hflip, squares, maps, quiet, monkeypatch):
    for data, config in ((squares, DetectConfig), (maps, SegmentConfig)):
        sample = {"scenes": lambda data=data: DenseSample(data, "none", 64, hflip)}
        monkeypatch.setattr(read_sets, "DENSE_SAMPLES", sample)
        monkeypatch.setattr(recognize, "DENSE_SAMPLES", sample)
        plan = make_plan(config("scenes", model="test_resnet", device="cpu"), quiet)
        assert plan.config.hflip == hflip
        assert (getattr(plan.config, "min_size", None) or plan.config.crop) == 64
        choices = [sentence for sentence in plan.choices if sentence.startswith("hflip")]
        assert choices == ["hflip 0 (this sample must not be mirrored)" if hflip == 0 else "hflip 0.5 (default)"]
        assert make_plan(config("scenes", model="test_resnet", device="cpu", hflip=0.25), quiet).config.hflip == 0.25


def test_flip_mirrors_images_and_targets_alike(squares, maps, quiet):
    for data, config in ((squares, DetectConfig), (maps, SegmentConfig)):
        batches = []
        for hflip in (0.0, 1.0):
            options = {"min_size": 64} if config is DetectConfig else {"crop": 64, "photometric": False}
            settled = config(str(data), hflip=hflip, **{k: v for k, v in QUICK.items() if k != "epochs"}, **options)
            plan = make_plan(settled, quiet)
            loader = plan.data_module().train_dataloader()
            batches.append(next(iter(loader)))
        plain, flipped = batches
        if config is DetectConfig:
            for image, mirror, target, mirrored in zip(*plain[:1], *flipped[:1], plain[1], flipped[1], strict=True):
                width = image.shape[2]
                assert np.array_equal(image.flip(2), mirror)
                boxes = target["boxes"].clone()
                boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
                assert np.array_equal(boxes, mirrored["boxes"])
        else:
            for image, mirror, labels, mirrored in zip(plain[0], flipped[0], plain[1], flipped[1], strict=True):
                assert np.array_equal(image.flip(2), mirror)
                assert np.array_equal(labels.flip(1), mirrored)

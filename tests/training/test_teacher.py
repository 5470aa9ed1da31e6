"""Knowledge distillation from a trained classifier."""

import math
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.helpers.class_folders import QUICK
from tests.helpers.stopped_training import stopped_before
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.metrics.targets import MultiLabelTargets
from transxnet.runs.load import load_model
from transxnet.runs.run_folder import Run
from transxnet.runs.trained_models import TrainedClassifier
from transxnet.training.teacher import LogitTeacher, load_teacher
from transxnet.training.train import train
from transxnet.utils.errors import UserError

STUDENT = Preprocessing(4, 1.0, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


class Probe(nn.Module):
    """Returns three logits and keeps its input."""

    def forward(self, images):
        self.seen = images
        return images.mean(dim=(2, 3))


def trained(size: int = 4, names: tuple[str, ...] = ("a", "b", "c"), **options) -> TrainedClassifier:
    preprocessing = Preprocessing(size, 1.0, "bicubic", (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    return TrainedClassifier(Probe(), "runs/teacher", list(names), None, preprocessing, **options)


def test_teacher_sees_images_in_its_own_normalization():
    plain = torch.rand(2, 3, 4, 4)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (STUDENT.mean, STUDENT.std))
    teacher = Probe()
    own = trained()
    LogitTeacher(TrainedClassifier(teacher, "t", list("abc"), None, own.preprocessing), STUDENT, list("abc")).logits(
        (plain - mean) / std
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (own.preprocessing.mean, own.preprocessing.std))
    torch.testing.assert_close(teacher.seen * std + mean, plain)


def test_teacher_sees_images_in_its_own_size():
    own = trained(size=6)
    teacher = LogitTeacher(own, STUDENT, list("abc"))
    teacher.logits(torch.rand(2, 3, 4, 4))
    assert own.model.seen.shape == (2, 3, 6, 6)
    assert teacher.note == "teacher: runs/teacher, its images resized to 6 pixels"


def test_loss_is_scaled_divergence_of_matched_classes():
    teacher = LogitTeacher(trained(names=("c", "a", "b")), STUDENT, ["a", "b", "c"])
    logits, images = torch.randn(2, 3), torch.rand(2, 3, 4, 4)
    own, target = (logits / 3).softmax(1), (teacher.logits(images)[:, [1, 2, 0]] / 3).softmax(1)
    expected = 9 * (target * (target / own).log()).sum(1).mean()
    torch.testing.assert_close(teacher.loss(logits, images, 3.0), expected)


def test_loss_of_equal_logits_is_zero():
    teacher, images = LogitTeacher(trained(), STUDENT, list("abc")), torch.rand(2, 3, 4, 4)
    assert teacher.loss(teacher.logits(images), images, 2.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (trained(names=("a", "b")), "has 2 classes, got data with 3"),
        (trained(names=("a", "b", "d")), "the classes of the data do not match the model: 1 of 3 are unknown, 'c'"),
        (trained(targets=MultiLabelTargets([0.5] * 3)), "predicts multilabel, got data with classes"),
    ],
    ids=["count", "names", "kind"],
)
def test_teacher_of_other_classes_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        LogitTeacher(given, STUDENT, ["a", "b", "c"])


def test_teacher_of_other_channels_is_refused():
    channels = Preprocessing(4, 1.0, "bicubic", (0.5,), (0.2,), channels=1)
    with pytest.raises(UserError, match="reads 3 channels, got images with 1"):
        LogitTeacher(trained(), channels, ["a", "b", "c"])


def test_missing_teacher_is_named():
    with pytest.raises(UserError, match=r"cannot load teacher runs/none: run folder runs/none does not exist"):
        load_teacher("runs/none")


def test_detector_is_no_teacher(boxes_run):
    with pytest.raises(UserError, match=r"is not a classifier\. Accepted: the run of a classifier"):
        load_teacher(str(boxes_run.path))


def test_distilled_run_resumes_with_the_same_weights(photos, photos_run, tmp_path, quiet):
    options = {**QUICK, "lr": 3e-3, "teacher": str(photos_run.path), "teacher_weight": 0.75, "select": "last"}
    whole = train(photos, out=tmp_path / "whole", console=quiet, **options)
    with stopped_before(5):
        train(photos, out=tmp_path / "run", console=quiet, **options)
    shutil.move(tmp_path / "run", tmp_path / "moved")
    run = train(resume=tmp_path / "moved", console=quiet)
    mine, theirs = load_file(run.weights_file), load_file(whole.weights_file)
    assert mine.keys() == load_model(photos_run.path).model.state_dict().keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    for row in Run(run.path).read_metrics():
        assert row["train_labels"] + row["train_teacher"] == pytest.approx(row["train_loss"], abs=1e-5)
        assert all(map(math.isfinite, (row["train_labels"], row["train_teacher"])))
    assert run.read_config().teacher == str(photos_run.path)
    assert any(note.startswith("teacher: ") for note in run.read_environment()["choices"])

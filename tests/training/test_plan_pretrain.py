import pytest

pytest.importorskip("lightly")

from transxnet.runs.pretrain_config import PretrainConfig
from transxnet.training.make_plan import make_plan
from transxnet.training.teacher import load_feature_teacher
from transxnet.utils.errors import UserError

OPTIONS = dict(model="test_resnet", img_size=32, device="cpu", workers=0, batch_size=4)


def test_plan_has_views_and_a_network_without_classes(photos, quiet):
    plan = make_plan(PretrainConfig(str(photos), **OPTIONS), quiet)
    (first, second), labels, _ = next(iter(plan.data_module().train_dataloader()))
    assert first.shape == second.shape == (4, 3, 32, 32) and len(labels) == 4
    assert plan.description()["class_names"] == [] and plan.model.num_classes == 0
    assert "labels are used only for the accuracy of the nearest neighbors" in plan.notes


def test_teacher_of_any_classes_is_accepted(photos, photos_run, quiet):
    config = PretrainConfig(str(photos / "red"), method="distill", teacher=str(photos_run.path), **OPTIONS)
    plan = make_plan(config, quiet)
    batch = next(iter(plan.data_module().train_dataloader()))
    (loss,) = plan.training_module().losses(batch).values()
    assert -1 <= loss.item() <= 1
    assert f"teacher: {photos_run.path}" in plan.notes


def test_random_teacher_is_refused():
    with pytest.raises(UserError, match="is not a trained network with pooled features"):
        load_feature_teacher("test_resnet@untrained")

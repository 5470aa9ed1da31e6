import pytest

from tests.helpers.class_folders import write_photos
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.make_plan import make_plan
from transxnet.utils.errors import UserError


def test_null_options_are_resolved_and_recorded(photos, quiet):
    plan = make_plan(ClassifyConfig(str(photos), model="test_resnet", device="cpu"), quiet)
    chosen = {
        "img_size", "crop_pct", "hflip", "drop_path_rate", "batch_size", "epochs", "lr", "warmup_epochs", "ema_decay",
        "workers", "precision", "loss",
    }  # fmt: skip
    assert {sentence.split()[0] for sentence in plan.choices} == chosen
    assert all(getattr(plan.config, name) is not None for name in chosen)


def test_model_without_stochastic_depth_gets_rate_zero(photos, console):
    plan = make_plan(ClassifyConfig(str(photos), model="vgg11", img_size=32), console)
    assert plan.config.drop_path_rate == 0
    assert plan.model_args == {}
    assert "drop_path_rate 0 (the model does not support stochastic depth)" in plan.choices
    with pytest.raises(UserError, match=r"cannot create vgg11 with .*drop_path_rate 0.2"):
        make_plan(ClassifyConfig(str(photos), model="vgg11", drop_path_rate=0.2), console)


def test_digits_sample_is_not_mirrored(quiet):
    pytest.importorskip("sklearn")
    plan = make_plan(ClassifyConfig("digits", model="test_resnet", device="cpu"), quiet)
    assert plan.config.hflip == 0
    assert "hflip 0 (this sample must not be mirrored)" in plan.choices


def test_weights_of_classes_and_images_reach_the_training(tmp_path, quiet):
    photos = write_photos(tmp_path / "photos", 5)
    rows = [f"{path},{path.parent.name},{0.5 if path.parent.name == 'red' else 1}" for path in photos.rglob("*.png")]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,weight", *rows]))
    options = dict(model="test_resnet", device="cpu", class_weights="balanced", sampler="balanced")
    plan = make_plan(ClassifyConfig(str(tmp_path / "labels.csv"), **options), quiet)
    module, labels = plan.training_module(), plan.source.train.own_labels
    assert module.objective.class_weights.tolist() == pytest.approx([1, 1, 1])
    assert module.image_weights.tolist() == [0.5 if label == 2 else 1 for label in labels]
    assert plan.data_module().train_sampler().probabilities == pytest.approx(1 / len(labels))
    unweighted = make_plan(ClassifyConfig(str(tmp_path / "labels.csv"), weighted_loss=False, **options), quiet)
    assert unweighted.training_module().image_weights is None

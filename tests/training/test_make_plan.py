import pytest
import torch

from tests.helpers.class_folders import QUICK, UNSET, write_photos
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import ClassifyConfig, DetectConfig
from transxnet.training.distributed import Hardware
from transxnet.training.make_plan import check_names, make_plan
from transxnet.training.plan_classify import ClassifyPlan
from transxnet.training.plan_dense import DetectPlan
from transxnet.utils.errors import UserError

OPTIONS = {**QUICK, "batch_size": 4}


def test_plan_is_of_the_task_and_resolved_once(photos, squares, quiet):
    plan = make_plan(ClassifyConfig(str(photos), **OPTIONS), quiet)
    assert isinstance(plan, ClassifyPlan)
    assert plan.hardware == Hardware("cpu", 1)
    assert len({choice.split()[0] for choice in plan.choices}) == len(plan.choices)
    assert {name for name, value in plan.config.to_dict().items() if value is None} == UNSET
    assert isinstance(make_plan(DetectConfig(str(squares), model="test_resnet", device="cpu"), quiet), DetectPlan)


def test_short_check_is_printed_at_the_first_start(photos, quiet):
    config = ClassifyConfig(str(photos), **OPTIONS)
    assert make_plan(config, quiet).notes[-1].endswith(f"transxnet check {photos}")
    assert not any("transxnet check" in note for note in make_plan(config, quiet, resumed=True).notes)


def test_same_seed_gives_the_same_weights(photos, quiet):
    one, other, third = (make_plan(ClassifyConfig(str(photos), seed=seed, **OPTIONS), quiet) for seed in (1, 1, 2))
    weights = [plan.model.state_dict() for plan in (one, other, third)]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())
    assert not all(torch.equal(weights[0][name], tensor) for name, tensor in weights[2].items())


def test_run_s_stored_split_is_used(tmp_path, quiet):
    data = write_photos(tmp_path / "photos", 5)
    run = Run(tmp_path)
    names = sorted(str(path.relative_to(data)) for path in data.rglob("*.png"))
    rows = [f"{name},{'val' if i % 5 == 0 else 'train'}" for i, name in enumerate(names)]
    run.split_file.write_text("name,part\n" + "\n".join(rows) + "\n")
    plan = make_plan(ClassifyConfig(str(data), **OPTIONS), quiet, run)
    assert sorted(map(plan.source.val.name, range(len(plan.source.val)))) == names[::5]


def test_processes_beyond_the_validation_images_are_refused(tmp_path, quiet):
    data = write_photos(tmp_path / "photos", 3)
    with pytest.raises(UserError, match=r"8 processes need at least as many validation images, got \d\."):
        make_plan(ClassifyConfig(str(data), **{**OPTIONS, "devices": 8, "batch_size": 1}), quiet)


def test_check_names_accepts_known_and_reports_unknown_names(tmp_path):
    check_names(ClassifyConfig("photos", model="transxnet_n@dpe=false", opt="lookahead_adamw"))
    with pytest.raises(
        UserError, match=r"drop_path_rate is a training option, not a model option. Use --drop-path-rate"
    ):
        check_names(ClassifyConfig("photos", model="transxnet_n@drop_path_rate=0.1"))
    with pytest.raises(UserError, match=r"checkpoint .*start\.pth does not exist"):
        check_names(ClassifyConfig("photos", model="test_resnet", checkpoint=str(tmp_path / "start.pth")))


def test_unfreezing_is_refused_with_several_processes(photos, tmp_path, quiet):
    config = ClassifyConfig(str(photos), freeze="backbone", freeze_epochs=1, devices=2, out=str(tmp_path), device="cpu")
    with pytest.raises(UserError, match=r"--freeze-epochs is not supported with 2 processes"):
        make_plan(config, quiet)

"""Loading a model by name with published weights, local weights or random weights, and from a run folder."""

import pytest
import timm
import torch

from tests.helpers.stored import stored_run
from transxnet.data.formats.class_alignment import imagenet_synsets
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.models.create import create_model
from transxnet.models.model_spec import parse_model_spec
from transxnet.runs.load import load_model, save_model
from transxnet.runs.run_folder import Run
from transxnet.runs.trained_models import TrainedClassifier
from transxnet.utils.errors import UserError

SMALL = "local_conv=dwconv,depths=(1,1,1,1)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "transxnet_z",
            "run folder transxnet_z does not exist. Read as a model name: unknown model.*Did you mean 'transxnet_",
        ),
        ("nowhere/x.1", "run folder nowhere/x.1 does not exist. transxnet train creates run folders"),
        ("transxnet_t.in2k", "^transxnet_t has no weights 'in2k'"),
        ("transxnet_t@untraind", "unknown setting 'untraind'. Did you mean 'untrained'"),
        ("transxnet_t@untrained,local_con=dwconv", "Did you mean 'local_conv'.*Accepted: .*attn_ratio"),
        ("transxnet_t@untrained,local_conv=dwcon", "local_conv must be.*Did you mean 'dwconv'"),
        ("transxnet_t@untrained,depths=3", "cannot create transxnet_t"),
        ("transxnet_t@local_conv=dwcon", r"local_conv must be[^@]*$"),
        ("transxnet_n", "no published weights for transxnet_n.*transxnet_n@untrained"),
        ("transxnet_t@untrained,file=x.pth", "Remove untrained or the file"),
    ],
)
def test_missing_model_for_an_analysis_is_an_error(text, message):
    with pytest.raises(UserError, match=message):
        load_model(text, analysis=True)


def test_options_parts_and_weights_on_disk(tmp_path):
    spec = parse_model_spec(f"transxnet_n@untrained,{SMALL}:ste")
    trained = load_model(spec, analysis=True)
    assert (trained.name, spec.part) == ("transxnet_n (local_conv=dwconv, depths=(1, 1, 1, 1))", "ste")
    assert trained.untrained
    torch.save({"state_dict": trained.backbone.state_dict()}, tmp_path / "weights.pth")
    for stored in (
        load_model(f"transxnet_n@file={tmp_path / 'weights.pth'},{SMALL}", analysis=True),
        load_model(f"transxnet_n@{SMALL}", tmp_path / "weights.pth"),
    ):
        assert not stored.untrained
        assert stored.class_names == list(imagenet_synsets())
        for ours, theirs in zip(stored.backbone.parameters(), trained.backbone.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_only_an_analysis_takes_random_weights_and_parts():
    with pytest.raises(UserError, match=r"unknown setting 'untrained'.* file=PATH, and model options"):
        load_model("transxnet_n@untrained")
    with pytest.raises(UserError, match="selects part 'stage4'"):
        load_model("transxnet_n:stage4")


def test_only_an_analysis_takes_classes_without_names(tmp_path):
    torch.save(create_model("transxnet_n", num_classes=7).state_dict(), tmp_path / "seven.pth")
    text = f"transxnet_n@num_classes=7,file={tmp_path / 'seven.pth'}"
    assert load_model(text, analysis=True).class_names == list("0123456")
    with pytest.raises(UserError, match="transxnet_n has 7 classes without names"):
        load_model(text)
    with pytest.raises(UserError, match=r"seven\.pth has 7 classes; transxnet_n needs ImageNet's 1,000"):
        load_model("transxnet_n", tmp_path / "seven.pth")


@pytest.mark.parametrize(("size", "side"), [(None, 160), (96, 96)])
def test_size_is_that_of_the_preprocessing(size, side):
    trained = load_model("test_vit@untrained", analysis=True, size=size)
    assert isinstance(trained, TrainedClassifier)
    assert trained.backbone_preprocessing.img_size == side
    assert trained.model(torch.zeros(1, 3, side, side)).shape == (1, 1000)


def test_run_folder_has_its_own_weights(tmp_path):
    run = stored_run(1, "finished", tmp_path)
    trained = load_model(run.path)
    assert (trained.name, trained.run.path, trained.untrained) == (str(run.path), run.path, False)
    assert parse_model_spec(f"{run.path}:layer4").part == "layer4"
    with pytest.raises(UserError, match="Remove --file"):
        load_model(run.path, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"config\.yaml is a file. Accepted: a run folder"):
        load_model(run.config_file)


@pytest.mark.parametrize(
    ("architecture", "model_args"),
    [
        ("transxnet_n@dpe=false", {"img_size": 64, "in_chans": 1, "token_enhancer": None}),
        ("test_vit", {"img_size": 96}),
        ("test_resnet", {}),
    ],
)
def test_timm_creates_the_classifier_of_a_run_folder(tmp_path, randomize, architecture, model_args):
    model = randomize(create_model(architecture, num_classes=3, **model_args)).eval()
    preprocessing = Preprocessing(96, 0.8, "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    description = {
        "task": "classify",
        "architecture": architecture,
        "model_args": model_args,
        "class_names": ["a", "b", "c"],
        "preprocessing": preprocessing.to_dict(),
    }
    save_model(Run(tmp_path), model.state_dict(), description)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = torch.randn(2, model_args.get("in_chans", 3), 96, 96)
    assert torch.equal(loaded(x), model(x))
    assert loaded.pretrained_cfg["label_names"] == ["a", "b", "c"]
    assert Preprocessing.of_model(loaded) == preprocessing
    fewer = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=2)
    assert fewer.num_classes == 2
    assert all(torch.equal(p, q) for p, q in zip(list(fewer.parameters())[:-2], model.parameters(), strict=False))


def test_only_classifiers_have_a_description_for_timm(tmp_path):
    save_model(Run(tmp_path), {"a": torch.zeros(1)}, {"task": "detect"})
    assert not (tmp_path / "config.json").exists()

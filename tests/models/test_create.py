import pytest
import timm
import torch

import transxnet
from transxnet.models.create import create_model_with, default_img_size, wrong_size_as_user_error
from transxnet.models.model_spec import parse_model_name
from transxnet.utils.errors import UserError


def test_own_and_timm_models_are_created_by_name():
    assert isinstance(transxnet.create_model("transxnet_n", num_classes=3), transxnet.TransXNet)
    assert transxnet.create_model("test_resnet", num_classes=3)(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("transxnett", "unknown model 'transxnett'. Did you mean 'transxnet_"),
        ("", "unknown model ''"),
        ("transxnet_b.in1k_385", "no weights 'in1k_385'. Did you mean 'in1k_384'"),
        ("transxnet_n.in1k", "transxnet_n has no weights 'in1k'. Accepted: none"),
    ],
)
def test_unknown_name_error_suggests_the_nearest(name, message):
    with pytest.raises(UserError, match=message):
        transxnet.create_model(name)


def test_run_folder_error_names_load(tmp_path):
    with pytest.raises(UserError, match=r"is a folder, not the name of a model\. Load a run folder with transxnet"):
        transxnet.create_model(str(tmp_path))


def test_an_option_that_the_model_does_not_have_is_an_error():
    with pytest.raises(TypeError, match="drop_path_rte"):
        transxnet.create_model("test_resnet", drop_path_rte=0.1)


def test_unavailable_weights_are_an_error():
    with pytest.raises(UserError, match="no published weights for transxnet_n"):
        transxnet.create_model("transxnet_n", pretrained=True)
    overlay = {"file": "nowhere.bin"}
    with pytest.raises(UserError, match="cannot get the published weights of vit_tiny_patch16_224"):
        transxnet.create_model("vit_tiny_patch16_224", pretrained=True, pretrained_cfg_overlay=overlay)


@pytest.mark.parametrize(
    ("name", "granted"),
    [
        pytest.param("vgg11", {}, marks=pytest.mark.long),
        ("test_resnet", {"drop_path_rate": 0.1}),
        ("transxnet_n", {"img_size": 64, "drop_path_rate": 0.1}),
        ("test_vit", {"img_size": 64, "drop_path_rate": 0.1}),
    ],
)
def test_model_gets_only_the_preferences_it_supports(name, granted):
    model, got = create_model_with(name, {"img_size": 64, "drop_path_rate": 0.1}, num_classes=3)
    assert got == granted
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


def test_required_options_are_not_dropped():
    with pytest.raises(TypeError, match="drop_path_rate"):
        create_model_with("vgg11", {"img_size": 64}, drop_path_rate=0.1)


def test_image_size_follows_the_tagged_weights():
    assert default_img_size("transxnet_b") == 224
    assert default_img_size("transxnet_b.in1k_384") == 384
    for name in ("resnet18", "test_vit", "inception_v3"):
        assert default_img_size(name) == timm.create_model(name).pretrained_cfg["input_size"][-1]


def test_a_parsed_name_is_created_without_its_settings():
    spec = parse_model_name("transxnet_n@compile,depths=(1,1,1,1):stage4")
    assert [len(stage.blocks) for stage in transxnet.create_model(spec).stages] == [1, 1, 1, 1]


def test_a_wrong_size_names_the_option():
    model = timm.create_model("test_vit")
    with (
        pytest.raises(UserError, match=r"test_vit does not support images of 33x33: .* Choose another --img-size"),
        wrong_size_as_user_error("test_vit", 33, 33, "--img-size"),
    ):
        model(torch.zeros(1, 3, 33, 33))


@pytest.mark.parametrize("value", ["none", "None"])
def test_a_model_has_the_options_of_its_name(value):
    name = f"transxnet_n@local_conv=dyconv,token_enhancer={value}"
    model = transxnet.create_model(name, num_classes=3)
    beside = transxnet.create_model("transxnet_n", num_classes=3, local_conv="dyconv", token_enhancer="none")
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in beside.state_dict().items()}
    assert sum(p.numel() for p in model.parameters()) != sum(
        p.numel() for p in transxnet.create_model("transxnet_n", num_classes=3).parameters()
    )
    _, granted = create_model_with("transxnet_n@img_size=96", {"img_size": 64, "drop_path_rate": 0.1})
    assert granted == {"drop_path_rate": 0.1}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("transxnet_n@local_konv=dyconv", "transxnet_n has no option 'local_konv'. Did you mean 'local_conv'"),
        ("test_resnet@block_sizes=3", "test_resnet has no option 'block_sizes'"),
        ("transxnet_n@local_conv=dyconf", "got 'dyconf'. Did you mean 'dyconv'"),
        ("transxnet_n@attn_ratio=0.3", "Nearest accepted: "),
        (
            "transxnet_n@compile",
            "unexpected 'compile' after @. Accepted: model options as name=value, separated by commas",
        ),
        ("transxnet_n@dpe=true,dpe=false", "sets dpe twice"),
        ("transxnet_n@num_classes=4", "num_classes is also passed as an argument"),
        ("transxnet_n@untrained", "unexpected 'untrained' after @"),
        ("transxnet_n@file=weights.pth", "unexpected 'file' after @"),
        ("transxnet_n:stage4", "selects part 'stage4'"),
    ],
)
def test_invalid_option_in_a_name_is_an_error(name, message):
    with pytest.raises(UserError, match=message):
        transxnet.create_model(name, num_classes=3)

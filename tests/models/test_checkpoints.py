"""Published files of every layout load completely, and all other files are refused with a reason."""

import argparse
import logging
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.helpers import fill
from tests.helpers.networks import on_meta
from tests.helpers.published import empty_backbone
from transxnet import convert_official_state_dict
from transxnet.layers import resize_position_bias
from transxnet.models import checkpoints
from transxnet.utils.errors import UserError, command_line

FORM = pytest.mark.parametrize("form", ["classifier", "features"])


def shapes(tensors: dict[str, Tensor]) -> dict[str, tuple]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.fixture(scope="session")
def filled() -> dict[str, dict[str, Tensor]]:
    """TransXNet-T's two published forms with the weights of the reference vectors, in float32."""
    return {
        form: {key: torch.from_numpy(array).float() for key, array in fill.checkpoint("t", form).items()}
        for form in ("classifier", "features")
    }


@pytest.fixture(scope="session")
def files(filled, tmp_path_factory) -> dict[str, Path]:
    """The same checkpoints as files."""
    paths = {form: tmp_path_factory.mktemp("published") / f"{form}.pth" for form in filled}
    for form, path in paths.items():
        torch.save({"state_dict": filled[form]}, path)
    return paths


def create(file: Path, name: str = "transxnet_t", **kwargs) -> nn.Module:
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=dict(file=str(file)), **kwargs).eval()


def same(model: nn.Module, filled: dict[str, Tensor], *but: str) -> bool:
    """Check that every tensor equals that of the file, except for names with the given prefixes."""
    truth = convert_official_state_dict(filled)
    return all(torch.equal(t, truth[n]) for n, t in model.state_dict().items() if not n.startswith(but))


# Layouts


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "prefix", ["", "module.", "backbone.", "module.backbone.", "backbone.module.", "module.module."]
)
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "state_dict_ema", "model_ema"])
@FORM
def test_wrappers_and_prefixes_are_removed(filled, form, wrapper, prefix):
    tensors = prefixed(filled[form], prefix)
    wrapped = tensors if wrapper is None else {"epoch": 300, wrapper: tensors, "optimizer": {"state": {}}}
    converted = convert_official_state_dict(wrapped)
    assert converted.keys() == convert_official_state_dict(filled[form]).keys()
    assert torch.equal(converted["stages.2.blocks.8.ffn.bn2.bias"], filled[form]["network.4.8.mlp.norm.bias"])


@pytest.mark.parametrize("other", ["state_dict", "model"])
def test_ema_weights_are_preferred(other):
    plain, average = empty_backbone("t", "classifier"), empty_backbone("t", "classifier")
    both = {other: plain, "state_dict_ema": average}
    for order in (both, dict(reversed(both.items()))):
        assert convert_official_state_dict(order)["norm.bias"] is average["classifier.0.bias"]
    assert convert_official_state_dict(both | {"state_dict_ema": None})["norm.bias"] is plain["classifier.0.bias"]


def test_own_layout_is_unchanged():
    ours = dict(on_meta("transxnet_n").state_dict())
    assert convert_official_state_dict(ours) == ours
    assert convert_official_state_dict({"state_dict": prefixed(ours, "module.")}) == ours


def test_given_mapping_is_not_modified():
    given = empty_backbone("t", "classifier")
    before = shapes(given)
    convert_official_state_dict(given)
    assert shapes(given) == before


# Missing and unexpected tensors


@pytest.mark.parametrize(
    ("drop", "named"),
    [
        ("network.6.2.", "stages.3.blocks.2.dpe.dwconv.weight"),
        ("patch_embed.proj.bn.num_batches_tracked", "stages.0.patch_embed.bn.num_batches_tracked"),
        ("classifier.", "head.fc.weight"),
        ("classifier.2.", "head.fc.bias"),
    ],
)
def test_tensors_missing_only_in_the_network_are_named(filled, tmp_path, drop, named):
    """A whole block, a counter or the whole head can be missing from a file that is consistent in itself."""
    torch.save({n: t for n, t in filled["classifier"].items() if not n.startswith(drop)}, tmp_path / "part.pth")
    with pytest.raises(UserError, match="missing") as error:
        create(tmp_path / "part.pth")
    assert named in str(error.value)


def test_another_variant_is_refused_with_the_shapes(files):
    with pytest.raises(UserError, match="Check the model variant") as error:
        create(files["classifier"], "transxnet_s")
    assert "(48, 3, 7, 7) for (64, 3, 7, 7)" in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "empty"),
        ({"state_dict": {}}, "empty"),
        ({"epoch": 3, "lr": 0.1}, r"not tensors \(2\): epoch, lr"),
        ({"state_dict": {"a": 1}}, r"not tensors \(1\): a"),
        ({0: torch.zeros(1)}, r"not tensors \(1\): 0"),
        ([torch.zeros(1)], "got list"),
        (torch.zeros(1), "got Tensor"),
        (None, "got NoneType"),
    ],
)
def test_anything_but_a_state_dict_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        convert_official_state_dict(given)


# Loading into a network


@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".safetensors"])
@FORM
def test_files_load_completely(filled, tmp_path, form, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(filled[form], path)
    else:
        torch.save({"state_dict": filled[form]}, path)
    assert same(create(path, features_only=form == "features"), filled[form])


def test_file_in_own_layout_loads(filled, tmp_path):
    ours = convert_official_state_dict(filled["classifier"])
    save_file({name: tensor.contiguous() for name, tensor in ours.items()}, tmp_path / "ours.safetensors")
    assert same(create(tmp_path / "ours.safetensors"), filled["classifier"])


def test_tensors_in_memory_load(filled):
    overlay = dict(state_dict={"model": filled["classifier"]})
    assert same(timm.create_model("transxnet_t", pretrained=True, pretrained_cfg_overlay=overlay), filled["classifier"])


def test_a_training_checkpoint_with_its_options_loads(filled, tmp_path):
    torch.save(
        {"args": argparse.Namespace(model="transxnet_t", lr=2e-3), "state_dict": filled["classifier"], "metric": 81.6},
        tmp_path / "last.pth.tar",
    )
    assert same(create(tmp_path / "last.pth.tar"), filled["classifier"])


@pytest.mark.parametrize("module", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_numpy_scalar_as_score_is_plain_data(tmp_path, module):
    """As saved by mmsegmentation, under the module name of NumPy before version 2 or since."""
    content = {"meta": {"best_score": np.float64(0.455), "iter": np.int64(80000)}, "state_dict": {"a": torch.ones(2)}}
    torch.save(content, tmp_path / "new.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "new.pth").read_bytes()
    assert b"numpy._core.multiarray" in data
    (tmp_path / "file.pth").write_bytes(data.replace(b"numpy._core.multiarray", module))
    read = checkpoints.read_checkpoint(tmp_path / "file.pth")
    assert read["meta"] == {"best_score": 0.455, "iter": 80000}
    assert torch.equal(read["state_dict"]["a"], torch.ones(2))


def test_same_weights_and_classes_load_without_a_warning(files, caplog):
    with caplog.at_level(logging.WARNING, "transxnet"):
        create(files["classifier"])
    assert not caplog.records


def test_other_classes_start_a_new_head_with_a_warning(files, filled, caplog):
    with caplog.at_level(logging.WARNING, "transxnet"):
        model = create(files["classifier"], num_classes=7)
    assert "the checkpoint has 1000 classes, the model 7" in caplog.text
    assert same(model, filled["classifier"], "head.")
    assert model.head.fc.weight.shape == (7, 448)
    assert model.head.fc.weight.std().item() == pytest.approx(0.02, abs=2e-3)
    assert not model.head.fc.bias.any()


def test_network_without_classifier_gives_the_file_s_features(files, filled, caplog):
    with caplog.at_level(logging.WARNING, "transxnet"):
        model = create(files["classifier"], num_classes=0)
    assert "the head is initialized randomly" in caplog.text
    assert same(model, filled["classifier"])


@pytest.mark.parametrize("num_classes", [1000, 7])
def test_a_classifier_without_its_bias_is_refused(filled, num_classes):
    ours = convert_official_state_dict(filled["classifier"])
    del ours["head.fc.bias"]
    for tensors in ({n: t for n, t in filled["classifier"].items() if n != "classifier.2.bias"}, ours):
        with pytest.raises(UserError, match=r"missing \(1\): (classifier.2|head.fc).bias"):
            timm.create_model(
                "transxnet_t", True, num_classes=num_classes, pretrained_cfg_overlay=dict(state_dict=tensors)
            )


def test_one_input_channel_gets_the_sum_of_the_three(files, filled):
    model = create(files["classifier"], in_chans=1)
    assert same(model, filled["classifier"], "stages.0.patch_embed.conv")
    truth = filled["classifier"]["patch_embed.proj.conv.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(model.stages[0].patch_embed.conv.weight.detach(), truth, rtol=0, atol=1e-6)


@torch.no_grad()
def test_another_image_size_resizes_the_stored_bias_exactly(files, filled):
    x = torch.randn(1, 3, 160, 160)
    model = create(files["classifier"], img_size=160)
    for i, stage in enumerate(model.stages):
        stored = filled["classifier"][f"relative_pos_enc.{i}"]
        assert torch.equal(stage.pos_bias.weight, resize_position_bias(stored, stage.pos_bias.weight.shape[2:]))
    assert [stage.pos_bias.weight.shape[2] for stage in model.stages] == [1600, 400, 100, 25]
    torch.testing.assert_close(model(x), create(files["classifier"])(x), rtol=0, atol=1e-4)


OUT_INDICES = pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 2, 3), (0, 2), (1,)])


@OUT_INDICES
def test_features_load_from_a_dense_file(files, filled, out_indices):
    model = create(files["features"], features_only=True, out_indices=out_indices)
    assert list(model.norms) == [str(i) for i in out_indices]
    assert same(model, filled["features"])


@OUT_INDICES
def test_features_load_from_a_classifier_with_new_norms(files, filled, out_indices, caplog):
    with caplog.at_level(logging.INFO, "transxnet"):
        model = create(files["classifier"], features_only=True, out_indices=out_indices)
    assert same(model, filled["classifier"], "norms.")
    assert all((norm.weight == 1).all() and not norm.bias.any() for norm in model.norms.values())
    assert f"norms.{out_indices[0]}.weight" in caplog.text


def test_a_dense_file_does_not_make_a_classifier(files):
    with pytest.raises(UserError, match="missing") as error:
        create(files["features"])
    for name in ("norm.weight", "head.fc.bias", "unexpected", "norms.0.weight"):
        assert name in str(error.value)


def test_a_detector_without_a_norm_for_stage_1_loads(filled, tmp_path):
    """RetinaNet's pyramid starts from stage 2."""
    torch.save({n: t for n, t in filled["features"].items() if not n.startswith("norm0.")}, tmp_path / "retina.pth")
    assert same(create(tmp_path / "retina.pth", features_only=True, out_indices=(1, 2, 3)), filled["features"])
    with pytest.raises(UserError, match=r"missing \(2\): norms.0.weight, norms.0.bias"):
        create(tmp_path / "retina.pth", features_only=True)


def test_source_of_weights_has_the_precedence_of_timm(tmp_path, monkeypatch):
    weights = {name: timm.create_model("transxnet_n").state_dict() for name in ("tensors", "file", "folder", "hub")}
    for i, tensors in enumerate(weights.values()):
        tensors["norm.bias"] = torch.full_like(tensors["norm.bias"], i)
    torch.save(weights["file"], tmp_path / "weights.pth")
    (tmp_path / "folder").mkdir()
    save_file(weights["folder"], tmp_path / "folder" / "model.safetensors")
    asked = []

    def download(repository, filename="pytorch_model.bin", **_):
        asked.append((repository, filename))
        return weights["hub"]

    monkeypatch.setattr(checkpoints, "load_state_dict_from_hf", download)

    def loaded(**overlay):
        model = timm.create_model("transxnet_n", pretrained=True, pretrained_cfg_overlay=overlay)
        return list(weights)[int(model.norm.bias[0])]

    tensors, file, folder = weights["tensors"], str(tmp_path / "weights.pth"), str(tmp_path / "folder")
    assert loaded(state_dict=tensors, file=file, hf_hub_id="a/b") == "tensors"
    assert loaded(file=file, hf_hub_id="a/b", url="https://example.org/a.pth") == "file"
    assert loaded(source="local-dir", file=folder, state_dict=tensors) == "folder"
    assert asked == []
    assert loaded(hf_hub_id="a/b", url="https://example.org/a.pth") == "hub"
    assert loaded(source="hf-hub", hf_hub_id="a/b", hf_hub_filename="c.bin", state_dict=tensors, file=file) == "hub"
    assert asked == [("a/b", "pytorch_model.bin"), ("a/b", "c.bin")]


def test_folder_prefers_safetensors_and_needs_weights(tmp_path):
    with pytest.raises(UserError, match=r"has no weights file. Accepted: model\.safetensors"):
        checkpoints.find_weights(tmp_path)
    for name in ("last.bin", "b.pth", "a.pth", "model.safetensors"):
        (tmp_path / name).touch()
        assert checkpoints.find_weights(tmp_path).name == ("a.pth" if name == "a.pth" else name)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("transxnet_t", "transx-t.pth.tar"),
        ("transxnet_t.in1k", "transx-t.pth.tar"),
        ("transxnet_s", "transx-s.pth.tar"),
        pytest.param("transxnet_b", "transx-b.pth.tar", marks=pytest.mark.long),
        pytest.param("transxnet_b.in1k", "transx-b.pth.tar", marks=pytest.mark.long),
        ("transxnet_b.in1k_384", "transx-b-384.pth.tar"),
    ],
)
def test_pretrained_weights_come_from_the_release_of_their_tag(monkeypatch, tmp_path, name, file):
    asked = []
    architecture = name.partition(".")[0]
    truth = timm.create_model(architecture)
    torch.save(truth.state_dict(), tmp_path / file)

    def local(url: str, cache_dir: str | None = None) -> str:
        asked.append((url, cache_dir))
        return str(tmp_path / file)

    monkeypatch.setattr(checkpoints, "download_cached_file", local)
    model = timm.create_model(name, pretrained=True, cache_dir="cache")
    assert asked == [(f"https://github.com/LMMMEng/TransXNet/releases/download/v1.0/{file}", "cache")]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), truth.parameters(), strict=True))


def test_failed_download_error_names_the_next_step(monkeypatch):
    def fail(url: str, cache_dir: str | None = None) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(checkpoints, "download_cached_file", fail)
    with (
        command_line(False),
        pytest.raises(UserError, match=r"cannot download https://.*transx-t.*no route.*dict\(file="),
    ):
        timm.create_model("transxnet_t", pretrained=True)


def test_nano_without_published_weights_is_an_error():
    with (
        command_line(False),
        pytest.raises(UserError, match=r"no published weights for transxnet_n.*pretrained_cfg_overlay=dict\(file="),
    ):
        timm.create_model("transxnet_n", pretrained=True)


# Invalid files


class Malicious:
    """Unpickling it writes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)


@pytest.mark.parametrize("zipped", [True, False])
def test_file_with_code_is_refused_and_not_run(filled, tmp_path, zipped):
    path, marker = tmp_path / "evil.pth", tmp_path / "marker"
    contents = {"state_dict": filled["features"], "extra": Malicious(marker)}
    torch.save(contents, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="exec, which can execute arbitrary code"):
        create(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the file of this test does nothing"


def whole(tmp_path: Path, suffix: str) -> bytes:
    path = tmp_path / f"whole{suffix}"
    if suffix == ".safetensors":
        save_file({"a": torch.zeros(3000)}, path)
    else:
        torch.save({"a": torch.zeros(3000)}, path, _use_new_zipfile_serialization=suffix == ".pth")
    return path.read_bytes()


@pytest.mark.parametrize("length", [0, 10, 30, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".safetensors"])
def test_truncated_file_is_reported_as_truncated(tmp_path, suffix, length):
    data = whole(tmp_path, suffix)
    path = tmp_path / f"truncated{suffix}"
    path.write_bytes(data[: int(length * len(data)) if isinstance(length, float) else length])
    with pytest.raises(UserError, match=r"truncated\S+ is truncated or not a checkpoint"):
        checkpoints.read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".safetensors"])
@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "<!DOCTYPE html>\n<title>Not Found</title>",
        "version https://git-lfs.github.com/spec/v1\nsize 1\n",
        "N.0(",
        "\x00" * 64,
    ],
)
def test_error_for_other_file_types_shows_their_beginning(tmp_path, text, suffix):
    path = tmp_path / f"file{suffix}"
    path.write_text(text)
    with pytest.raises(UserError, match="truncated or not a checkpoint: it starts with") as error:
        checkpoints.read_checkpoint(path)
    assert repr(text[:24].encode()) in str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_missing_file_is_named(tmp_path, suffix):
    with pytest.raises(UserError, match=f"checkpoint file .*nowhere{suffix} does not exist"):
        create(tmp_path / f"nowhere{suffix} does not exist")


def test_file_without_a_mapping_is_refused(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    with pytest.raises(UserError, match="expected a mapping of names to tensors, got list"):
        create(tmp_path / "list.pth")

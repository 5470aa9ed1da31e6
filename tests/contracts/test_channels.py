"""Images of four 16-bit channels through every command: nothing reduces them to 8 bits or to RGB."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import transxnet
from tests.helpers.channel_data import CHANNELS, LOW_BYTES, write_bands
from tests.helpers.class_folders import QUICK
from transxnet.analysis.dynamics import dynamics
from transxnet.analysis.erf import erf
from transxnet.analysis.explain import explain
from transxnet.checking.check import check
from transxnet.data.reading.channel_decoding import open_channels
from transxnet.deploy.export import export
from transxnet.deploy.verify_file import verify
from transxnet.evaluation.evaluate import evaluate
from transxnet.prediction.predict import predict
from transxnet.runs.load import load_model
from transxnet.runs.task_configs import ClassifyConfig, config_from_dict
from transxnet.training.make_plan import make_plan
from transxnet.training.train import train
from transxnet.utils.errors import UserError
from transxnet.web.page_model import PageModel

OPTIONS = {**QUICK, "channels": CHANNELS, "epochs": 6, "lr": 3e-3, "min_scale": 0.9}


@pytest.fixture(scope="module")
def bands(tmp_path_factory):
    return write_bands(tmp_path_factory.mktemp("data") / "bands", 16)


@pytest.fixture(scope="module")
def run(bands, quiet, tmp_path_factory):
    return train(bands, out=tmp_path_factory.mktemp("runs") / "bands", console=quiet, **OPTIONS)


@pytest.fixture(scope="module")
def exported(run, quiet, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    return export(run.path, out=tmp_path_factory.mktemp("files") / "bands.onnx", console=quiet)


def image_of(bands, name: str) -> str:
    return str(bands / name / "000.tif")


def test_classes_that_differ_in_a_low_byte_are_separated(run, bands):
    assert json.loads(run.results_file.read_text())["accuracy"] == 1
    prepared = [load_model(run.path).preprocessing.transform()(open_channels(image_of(bands, c), 4)) for c in LOW_BYTES]
    assert (prepared[0][-1] - prepared[1][-1]).abs().min() > 1.9  # two standard deviations


def test_run_stores_channels_and_statistics(run):
    description = json.loads(run.model_file.read_text())
    stored = description["preprocessing"]
    assert (stored["channels"], description["model_args"]["in_chans"]) == (CHANNELS, CHANNELS)
    assert stored["mean"][-1] == pytest.approx(0x8000 + 127.5) and stored["std"][-1] == pytest.approx(127.5)
    assert json.loads(run.timm_file.read_text())["pretrained_cfg"]["input_size"] == [4, 32, 32]
    config = run.read_config()
    assert (config.channels, config.color_jitter) == (CHANNELS, 0)
    assert any("color_jitter is not applied" in note for note in run.read_environment()["choices"])


def test_report_shows_images_and_grad_cam(run):
    pytest.importorskip("pytorch_grad_cam")
    page = run.report_file.read_text()
    assert "None of the images can be read" not in page and "Grad-CAM failed" not in page
    assert page.count("data:image") > 12


def test_evaluation_reads_the_channels(run, bands, quiet):
    assert evaluate(run.path, workers=0, console=quiet).metrics()["accuracy"] == 1
    assert evaluate(run.path, bands, split="train", workers=0, console=quiet).metrics()["accuracy"] == 1


def test_predictions_for_folders_arrays_and_tensors(run, bands, tmp_path, quiet):
    np.save(tmp_path / "one.npy", open_channels(image_of(bands, "light"), 4).numpy())
    (tmp_path / "rgb.png").write_bytes(b"no image")
    stored = predict(run.path, [bands / "dark", tmp_path], out=tmp_path / "out", workers=0, console=quiet)
    labels = {each.path: each.error or each.result.label for each in stored}
    assert {each.result.image.size for each in stored if each.error is None} == {(40, 40)}
    assert labels.pop(str(tmp_path / "rgb.png")).startswith("not an image")
    assert labels.pop(str(tmp_path / "one.npy")) == "light"
    assert set(labels.values()) == {"dark"} and len(labels) == 16
    model = transxnet.load(run.path, device="cpu")
    pixels = open_channels(image_of(bands, "light"), 4)
    forms = [image_of(bands, "light"), pixels, pixels.numpy(), pixels.permute(1, 2, 0).numpy().astype(np.uint16)]
    results = model.predict(forms)
    assert [result.label for result in results] == ["light"] * 4
    assert len({round(result.score, 4) for result in results}) == 1
    assert {result.image.size for result in results} == {(40, 40)}
    results[0].plot()
    assert len(model.embed(forms)) == 4
    for wrong, reason in ((pixels[:3], "not 4 channels"), (Image.new("RGB", (40, 40)), "the model reads 4 channels")):
        with pytest.raises(UserError, match=reason):
            model.predict(wrong)


def test_parquet_predictions_read_the_channels(run, bands, tmp_path, quiet):
    pytest.importorskip("pyarrow")
    stored = predict(run.path, bands, out=tmp_path / "out.parquet", workers=0, console=quiet)
    assert [each.result.label for each in stored] == ["dark"] * 16 + ["light"] * 16


def test_export_verifies_and_predicts_as_the_run(run, exported, bands, quiet):
    metadata = transxnet.read_metadata(exported)
    assert (metadata.channels, len(metadata.mean)) == (CHANNELS, CHANNELS)
    assert verify(exported, console=quiet).comparison.relative < 1e-4
    model, original = transxnet.load(exported), transxnet.load(run.path, device="cpu")
    for name in LOW_BYTES:
        found, expected = (each.predict(image_of(bands, name)) for each in (model, original))
        assert found.label == name
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
    assert evaluate(exported, workers=0, console=quiet).metrics()["accuracy"] == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (dict(with_preprocessing=True), "--with-preprocessing is for RGB images"),
        (dict(int8=True), "--int8 is for RGB images"),
        (dict(end_to_end=True), "--end-to-end is for RGB images"),
    ],
)
def test_export_for_8_bit_images_is_refused(options, reason, run, tmp_path, quiet):
    path = tmp_path / ("a.xml" if "int8" in options else "a.onnx")
    with pytest.raises(UserError, match=reason):
        export(run.path, out=path, console=quiet, **options)


def test_analyses_read_the_channels(run, bands, quiet):
    pytest.importorskip("pytorch_grad_cam")
    (found,) = explain(run.path, image_of(bands, "dark"), class_name="dark", out=None, console=quiet)
    assert found.class_name == "dark" and found.image.shape == (32, 32, 3) and found.image.std() > 10
    (field,) = erf(run.path, bands, images=2, out=None, console=quiet)
    assert field.images == 2
    with pytest.raises(UserError, match="generates no kernels"):
        dynamics(run.path, bands, out=None, console=quiet)


def test_check_compares_all_values(run, bands, quiet):
    """In 8 bits, or in the first three channels, there would be other duplicates."""
    result = check(bands, model=run.path, out=None, console=quiet)
    assert result.modes == {"4 channels": 32}
    assert not result.of("unreadable") and not result.of("exact_duplicate") and not result.of("exact_leak")


def test_page_refuses_the_model(run):
    with pytest.raises(UserError, match="reads 4 channels"):
        PageModel(load_model(run.path), "cpu")


def test_run_resumes_with_its_channels(run, tmp_path, quiet):
    longer = train(resume=run.path, epochs=7, console=quiet)
    assert len(longer.read_metrics()) == 7


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (dict(auto_augment="rand-m9"), "auto_augment changes the colors"),
        (dict(channels=0), "channels must be an integer of at least 1"),
    ],
)
def test_options_that_need_rgb_are_refused(options, reason, bands):
    with pytest.raises(UserError, match=reason):
        config_from_dict({"data": str(bands), "task": "classify", "channels": 4, **options})


def test_data_without_files_is_refused(quiet):
    pytest.importorskip("sklearn")
    with pytest.raises(UserError, match="--channels needs images in files"):
        make_plan(ClassifyConfig("digits", model="test_resnet", device="cpu", channels=1), quiet)


def test_stem_of_rgb_weights_is_adapted(photos_run, bands, quiet):
    options = dict(model="test_resnet", device="cpu", channels=4, img_size=32, checkpoint=str(photos_run.path))
    adapted = make_plan(ClassifyConfig(str(bands), **options), quiet).model.conv1[0].weight
    before = load_model(photos_run.path).model.conv1[0].weight
    assert adapted.shape[1] == 4
    torch.testing.assert_close(adapted[:, :3], before * 3 / 4)

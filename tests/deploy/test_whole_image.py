"""What surrounds a network in files that take a decoded image of any size, and these files."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

import transxnet
from tests.helpers.exports import SUFFIX, photo
from transxnet.data.loading.dense_transforms import AlignedResize
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.deploy.export import export
from transxnet.deploy.exportable_model import prepare_whole_image
from transxnet.deploy.verify import difference
from transxnet.deploy.whole_image import ClassifierInput, DetectorInput, SegmenterInput, pasted_masks
from transxnet.heads.detector_transform import DetectorTransform, paste_masks
from transxnet.runs.load import load_model
from transxnet.utils.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(70, 90), (300, 200), (64, 64), (31, 700), (33, 1), (640, 17)]
"""Heights and widths, two of them more than 16 times as long as wide, of which classifiers only use the middle."""


def decoded(height: int, width: int) -> Tensor:
    return torch.from_numpy(np.array(photo(height, width)))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("crop_pct", [0.9, 1.0])
def test_classifier_gets_the_pixels_of_pillow(interpolation, crop_pct):
    preprocessing = Preprocessing(64, crop_pct, interpolation, MEAN, STD)
    module, transform = ClassifierInput(preprocessing).eval(), preprocessing.transform()
    for size in SIZES:
        levels = [
            (pixels * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255
            for pixels in (module(decoded(*size))[0][0], transform(photo(*size)))
        ]
        torch.testing.assert_close(levels[0], levels[1], rtol=0, atol=1e-3)


@pytest.mark.parametrize("as_published", [False, True])
def test_segmenter_gets_the_pixels_of_its_own_transform(as_published):
    resize = AlignedResize((128, 64), as_published=as_published)
    module = SegmenterInput(resize).eval()
    for size in SIZES:
        image = decoded(*size)
        (found,) = module(image)
        truth = resize(tv_tensors.Image(image.permute(2, 0, 1).contiguous())).as_subclass(Tensor)
        difference = (found[0] * 255 - truth).abs()
        assert difference.max() < (1e-3 if as_published else 1.01)
        assert (difference > 0.01).float().mean() < 0.02


@pytest.mark.parametrize("opencv_resize", [False, True])
def test_detector_gets_the_pixels_of_its_own_transform(opencv_resize):
    transform = DetectorTransform(64, 100, MEAN, STD).eval()
    transform.opencv_resize = opencv_resize
    module = DetectorInput(transform).eval()
    for size in SIZES:
        image = decoded(*size)
        found, limits = module(image)
        truth, _ = transform([image.permute(2, 0, 1).float() / 255])
        normalized = (found - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        torch.testing.assert_close(normalized, truth.tensors, rtol=0, atol=1e-5)
        assert limits.tolist() == [*truth.image_sizes[0][::-1]] * 2


def test_masks_are_pasted_as_by_the_detector():
    image, dice = torch.zeros(40, 60, 3), torch.Generator().manual_seed(0)
    masks = torch.rand(3, 28, 28, generator=dice)
    boxes = torch.tensor([[3.7, 2.2, 50.1, 33.9], [0.0, 0.0, 60.0, 40.0], [10.0, 10.0, 10.4, 12.0]])
    found = pasted_masks(masks, boxes, image)
    assert found.dtype == torch.bool and found.any((1, 2))[:2].all()
    assert (found == paste_masks(masks, boxes, (40, 60))).float().mean() > 0.999


@pytest.mark.parametrize("run", ["theirs", "ours", "segmenter", "detector", "mask_detector"])
@torch.no_grad()
def test_modules_give_the_outputs_of_predict(run, request):
    trained = load_model(request.getfixturevalue(run).path)
    side = 64 if run in ("theirs", "ours") else None
    model = prepare_whole_image(trained, side=side, dtype=torch.float32)
    image = decoded(90, 120)
    first, *others = model.whole_image.prepare(image)
    results = model.graph(first, *others)
    results = results if isinstance(results, tuple) else (results,)
    found, truth = model.whole_image.finish(image, *others, *results), model.reference_outputs(image)
    assert len(found) == len(truth) == len(model.outputs)
    assert len(truth[0]) > (10 if model.task == "detect" else 0)
    if model.task != "detect":
        assert found[0].shape == truth[0].shape
        assert (found[0].float() - truth[0].float()).abs().mean() < 1e-3
        return
    assert [values.shape for values in found] == [values.shape for values in truth]
    torch.testing.assert_close(found[2], truth[2], rtol=0, atol=1e-4)


LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("run", "format"),
    [
        ("theirs", "onnx"),
        pytest.param("theirs", "openvino", marks=LONG),
        pytest.param("segmenter", "onnx", marks=LONG),
        pytest.param("segmenter", "openvino", marks=LONG),
        pytest.param("detector", "onnx", marks=LONG),
        pytest.param("detector", "openvino", marks=LONG),
        pytest.param("mask_detector", "onnx", marks=LONG),
        pytest.param("mask_detector", "openvino", marks=LONG),
    ],
)
def test_file_predicts_like_its_run(run, format, request, photos, tmp_path, console):
    path = request.getfixturevalue(run).path
    file = export(path, format=format, end_to_end=True, out=tmp_path / f"net{SUFFIX[format]}", console=console)
    exported, metadata = transxnet.load(file), transxnet.read_metadata(file)
    assert metadata.input == "image"
    model = prepare_whole_image(load_model(path), side=64 if run == "theirs" else None, dtype=torch.float32)
    for size in SIZES:
        outputs = list(exported.backend.exported.predict_image(decoded(*size).permute(2, 0, 1)).values())
        _, relative, _ = difference(outputs, model.reference_outputs(decoded(*size)), metadata)
        assert relative < (1e-2 if metadata.task == "segment" else 1e-3)
    image, trained = Image.open(photos / "ant" / "0.png"), transxnet.load(path)
    found, truth = exported.predict(image), trained.predict(image)
    if metadata.task == "classify":
        np.testing.assert_allclose(found.probabilities, truth.probabilities, atol=1e-4)
    elif metadata.task == "segment":
        assert (found.label_map == truth.label_map).mean() > 0.99
    else:
        assert found.labels == truth.labels
        np.testing.assert_allclose(found.boxes, truth.boxes, atol=1e-2)
        assert run == "detector" or (found.masks == truth.masks).mean() > 0.999
    assert "one uint8 (height, width, 3) -> " in console.file.getvalue()
    assert transxnet.verify(file, console=console).comparison.relative < 1e-2
    results = transxnet.predict(file, photos, out=tmp_path / "out", workers=0, console=console)
    assert [each.error for each in results] == [None] * 9


def test_other_options_and_models_are_refused(theirs, segmenter, tmp_path, console):
    for options in ({"int8": True}, {"features": True}, {"with_preprocessing": True}, {"batch_size": 2}):
        with pytest.raises(UserError, match="--end-to-end takes one image of any size"):
            export(theirs.path, end_to_end=True, out=tmp_path / "net.onnx", console=console, **options)
    with pytest.raises(UserError, match="--end-to-end requires --format onnx or openvino, got pt2"):
        export(theirs.path, format="pt2", end_to_end=True, out=tmp_path / "net.pt2", console=console)
    with pytest.raises(UserError, match=r"--end-to-end resizes images .* as in its training. Remove --img-size"):
        export(segmenter.path, end_to_end=True, img_size=64, out=tmp_path / "net.onnx", console=console)
    with pytest.raises(UserError, match="--end-to-end supports classifiers of square images only"):
        export(theirs.path, end_to_end=True, img_size="64x96", out=tmp_path / "net.onnx", console=console)
    assert not list(tmp_path.iterdir())

"""Files that take a decoded image of any size and return probabilities."""

import numpy as np
import pytest
import torch
from PIL import Image

import transxnet
from tests.helpers.exports import SUFFIX
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.deploy.export import export
from transxnet.deploy.exported_model import load_exported
from transxnet.deploy.whole_image_classifier import ClassifierInput
from transxnet.runs.load import load_model
from transxnet.utils.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(70, 90), (300, 200), (64, 64), (31, 700), (33, 1), (640, 17)]
"""Heights and widths, two of them more than 16 times as long as wide, of which only the middle is used."""


def photo(height: int, width: int) -> Image.Image:
    """A smooth random image."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 7 + 2, width // 7 + 2, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("crop_pct", [0.9, 1.0])
def test_resized_pixels_are_those_of_pillow(interpolation, crop_pct):
    preprocessing = Preprocessing(64, crop_pct, interpolation, MEAN, STD)
    module, transform = ClassifierInput(preprocessing).eval(), preprocessing.transform()
    for size in SIZES:
        image = photo(*size)
        levels = [
            (pixels * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255
            for pixels in (module(torch.from_numpy(np.array(image)))[0], transform(image))
        ]
        difference = (levels[0] - levels[1]).abs()
        assert difference.max() < 1.01
        assert (difference > 0.01).float().mean() < 0.01


@pytest.mark.parametrize("format", ["onnx", pytest.param("openvino", marks=pytest.mark.long)])
def test_file_gives_the_probabilities_of_predict(theirs, photos, tmp_path, console, format):
    file = export(theirs.path, format=format, end_to_end=True, out=tmp_path / f"net{SUFFIX[format]}", console=console)
    exported, model = load_exported(file), transxnet.load(theirs.path)
    assert (exported.metadata.input, exported.metadata.outputs) == ("image", ("probabilities",))
    for size in SIZES:
        image = photo(*size)
        (found,) = exported.session(torch.from_numpy(np.array(image)))
        np.testing.assert_allclose(found[0], model.predict(image).probabilities, atol=1e-4)
    assert "one uint8 (height, width, 3) -> probabilities" in console.file.getvalue()
    assert transxnet.verify(file, console=console).comparison.relative < 1e-3
    with pytest.raises(UserError, match=r"takes one decoded image .*exported without --end-to-end"):
        transxnet.predict(file, photos, out=tmp_path / "out", console=console)


def test_other_options_and_models_are_refused(theirs, segmenter, tmp_path, console):
    for options in ({"int8": True}, {"features": True}, {"with_preprocessing": True}, {"batch_size": 2}):
        with pytest.raises(UserError, match="--end-to-end takes one image of any size"):
            export(theirs.path, end_to_end=True, out=tmp_path / "net.onnx", console=console, **options)
    with pytest.raises(UserError, match="--end-to-end supports classifiers of square images only"):
        export(segmenter.path, end_to_end=True, out=tmp_path / "net.onnx", console=console)
    assert load_model(theirs.path).preprocessing.interpolation == "bicubic"

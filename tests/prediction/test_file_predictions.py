from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transxnet.prediction.file_predictions import predict_files
from transxnet.prediction.loaded_model import open_model


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["photos_run", "finding_run", "maps_run"])
def test_predictions_equal_those_of_the_loaded_model(kind, workers, image_folder, request):
    model = open_model(request.getfixturevalue(kind).path)
    found = list(predict_files(model, [image_folder], batch_size=3, workers=workers))
    assert [each.path for each in found] == sorted(str(path) for path in image_folder.rglob("*.png"))
    bad = [each for each in found if each.error is not None]
    assert [Path(each.path).name for each in bad] == ["broken.png"]
    assert bad[0].result is None
    for each in found:
        if each.result is not None:
            expected = model.predict(each.path)
            assert type(each.result) is type(expected)
            for one, other in zip(each.result._columns().values(), expected._columns().values(), strict=True):
                if isinstance(one[0], str):
                    assert list(one) == list(other)
                else:
                    np.testing.assert_allclose(one, other, atol=1e-5)


def test_images_are_read_lazily(photos_run, image_folder, monkeypatch):
    opened = []
    module = "transxnet.data.reading.pixels.open_image"
    monkeypatch.setattr(module, lambda path: opened.append(path) or Image.new("RGB", (32, 32)))
    answers = predict_files(open_model(photos_run.path), [image_folder], batch_size=2)
    next(answers)
    assert len(opened) == 2


@pytest.mark.parametrize("kind", ["photos_run", "finding_run", "maps_run"])
def test_errors_of_one_image_do_not_end_the_prediction(kind, tmp_path, request, monkeypatch):
    model = open_model(request.getfixturevalue(kind).path)
    for name, width in (("a", 60), ("b", 61), ("c", 60)):
        Image.new("RGB", (width, 60)).save(tmp_path / f"{name}.png")
    prepare, results = model.backend.prepare, model.results

    def check(sizes: list[int]) -> None:
        if 61 in sizes:
            raise MemoryError

    def prepare_or_fail(image: Image.Image):
        check([image.width] if model.task == "classify" else [])
        return prepare(image)

    def results_or_fail(tensors, sources):
        check([tensor.shape[-1] for tensor in tensors])
        return results(tensors, sources)

    monkeypatch.setattr(model.backend, "prepare", prepare_or_fail)
    monkeypatch.setattr(model, "results", results_or_fail)
    assert [each.error for each in predict_files(model, [tmp_path])] == [None, "out of memory", None]

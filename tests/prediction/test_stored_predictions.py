import os
from pathlib import Path

import numpy as np
import pytest

from transxnet.prediction.file_predictions import predict_files
from transxnet.prediction.image_results import Classification, DetectedObjects, Segmentation
from transxnet.prediction.loaded_model import open_model
from transxnet.prediction.predict import predict


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("photos_run", ["predictions.csv", "predictions.jsonl"]),
        pytest.param("finding_run", ["images.json", "detections.json", "drawn"], marks=pytest.mark.long),
        ("masks_run", ["images.json", "detections.json", "drawn"]),
        ("maps_run", ["predictions.csv", "classes.txt", "maps", "drawn"]),
    ],
)
def test_results_are_read_back_from_a_folder(kind, files, image_folder, tmp_path, quiet, request):
    run = request.getfixturevalue(kind).path
    out = predict(run, image_folder, out=tmp_path / "out", workers=0, console=quiet)
    assert out.files == [tmp_path / "out" / name for name in files]
    assert (Path(out), out.folder, os.fspath(out)) == (tmp_path / "out", tmp_path / "out", str(tmp_path / "out"))
    expected = list(predict_files(open_model(run), [image_folder]))
    found = list(out)
    assert len(out) == len(found) == len(expected) == 13
    assert [(each.path, each.error) for each in found] == [(each.path, each.error) for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert_equal(one.result, other.result)
    assert [each.path for each in out] == [each.path for each in found]  # can be iterated again
    html = out._repr_html_()
    assert "13 images" in html
    assert "broken.png" in html


def assert_equal(found, expected) -> None:
    """Equal up to the digits in the files."""
    assert type(found) is type(expected)
    if isinstance(found, Classification):
        assert [name for name, _ in found.top()] == [name for name, _ in expected.top()]
        np.testing.assert_allclose([p for _, p in found.top()], [p for _, p in expected.top()], atol=1e-6)
        assert np.array_equal(found.image, expected.image)
    if isinstance(found, DetectedObjects):
        assert found.labels == expected.labels
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.0101)
        if expected.masks is not None and len(found):
            assert np.array_equal(found.masks, expected.masks)
        assert np.array_equal(found.image, expected.image)
    if isinstance(found, Segmentation):
        assert found.class_names == expected.class_names
        assert np.array_equal(found.label_map, expected.label_map)
        assert np.array_equal(found.plot(), expected.plot())


def test_only_the_top_classes_are_stored(photos_run, image_folder, tmp_path, quiet):
    out = predict(photos_run.path, image_folder / "red", out=tmp_path / "out", top_k=2, workers=0, console=quiet)
    assert [each.result.probabilities.shape for each in out] == [(2,)] * 4


@pytest.mark.parametrize("options", [{}, {"rows_per_file": 4}, {"embed": "float16"}])
def test_results_are_read_back_from_parquet(run, images, tmp_path, quiet, options):
    pytest.importorskip("pyarrow")
    name = "results" if "rows_per_file" in options else "results.parquet"
    out = predict(run, images, out=tmp_path / name, batch_size=3, workers=0, console=quiet, **options)
    assert os.fspath(out) == str(tmp_path / name)
    assert out.folder == (tmp_path / "results" if "rows_per_file" in options else tmp_path)
    assert all(path.suffix == ".parquet" for path in out.files)
    expected = list(predict_files(open_model(run), [images], batch_size=3))
    found = list(out)
    assert len(out) == len(found) == 21
    for one, other in zip(found, expected, strict=True):
        assert (one.path, one.error) == (other.path, other.error)
        assert_equal(one.result, other.result)

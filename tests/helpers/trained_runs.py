"""Trained runs shared by the tests."""

import io
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from tests.helpers import target_data
from tests.helpers.class_folders import QUICK, write_photos
from tests.helpers.dense_data import DETECT, SEGMENT, write_maps, write_squares
from transxnet.data.samples.builtin_samples import SAMPLES
from transxnet.heads import RetinaNet
from transxnet.runs.run_folder import Run
from transxnet.training.train import train


@pytest.fixture
def console() -> Console:
    """A console without a terminal; its output is in ``console.file.getvalue()``."""
    return Console(file=io.StringIO())


@pytest.fixture(scope="session")
def quiet() -> Console:
    """A console whose output is discarded."""
    return Console(file=io.StringIO())


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Three classes of 15 images each."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos", 15)


@pytest.fixture(scope="session")
def photos_run(photos, quiet, tmp_path_factory) -> Run:
    """A finished run on these images."""
    out = tmp_path_factory.mktemp("runs") / "photos"
    return train(photos, out=out, lr=3e-3, console=quiet, **QUICK)


@pytest.fixture(scope="session")
def digits_run(quiet, tmp_path_factory) -> Run:
    """Two epochs on scikit-learn's digits."""
    pytest.importorskip("sklearn")
    out = tmp_path_factory.mktemp("runs") / "digits"
    options = {**QUICK, "batch_size": 32, "img_size": None, "lr": 3e-3}
    return train("digits", out=out, console=quiet, **options)


@pytest.fixture
def tint_sample() -> Iterator[str]:
    """The name of a sample with several labels per image, or a value."""
    SAMPLES[target_data.NAME] = target_data.tints
    yield target_data.NAME
    del SAMPLES[target_data.NAME]


@pytest.fixture(scope="session")
def trained_on_tints(quiet, tmp_path_factory) -> Callable[[str], Run]:
    """Train on ``tint_sample`` with the given targets, once."""

    @cache
    def once(targets: str) -> Run:
        out = tmp_path_factory.mktemp("runs") / targets
        return train(target_data.NAME, out=out, console=quiet, targets=targets, **target_data.OPTIONS)

    return once


@pytest.fixture
def labels_run(tint_sample, trained_on_tints) -> Run:
    """A finished run on images with several labels."""
    return trained_on_tints("multilabel")


@pytest.fixture
def values_run(tint_sample, trained_on_tints) -> Run:
    """A finished run on images with a value each."""
    return trained_on_tints("regression")


@pytest.fixture(scope="session")
def squares(tmp_path_factory) -> Path:
    """Squares of two classes in COCO format: 6 training images, 3 validation images."""
    return write_squares(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="session")
def maps(tmp_path_factory) -> Path:
    """Label maps of the same squares, with the background as a third class."""
    return write_maps(tmp_path_factory.mktemp("data") / "maps")


@pytest.fixture(scope="session")
def boxes_run(squares, quiet, tmp_path_factory) -> Run:
    """A finished RetinaNet run on the squares."""
    return train(squares, out=tmp_path_factory.mktemp("runs") / "boxes", lr=3e-3, console=quiet, **DETECT)


@pytest.fixture(scope="session")
def masks_run(quiet, tmp_path_factory) -> Run:
    """A Mask R-CNN after one epoch, on small images, since it is the slowest."""
    data = write_squares(tmp_path_factory.mktemp("data") / "few", 2, 1)
    options = {**DETECT, "head": "maskrcnn", "min_size": 32, "epochs": 1, "select": "last"}
    return train(data, out=tmp_path_factory.mktemp("runs") / "masks", console=quiet, **options)


@pytest.fixture(scope="session")
def maps_run(maps, quiet, tmp_path_factory) -> Run:
    """A finished Semantic FPN run on the label maps."""
    return train(maps, out=tmp_path_factory.mktemp("runs") / "maps", lr=3e-3, console=quiet, **SEGMENT)


@pytest.fixture(scope="session")
def finding_run(boxes_run, tmp_path_factory) -> Run:
    """The same RetinaNet with raised scores: it detects a hundred objects in each image."""
    run = Run(Path(shutil.copytree(boxes_run.path, tmp_path_factory.mktemp("runs") / "finding")))
    weights, bias = load_file(run.weights_file), f"{RetinaNet.class_layers[0]}.bias"
    weights[bias] += 5
    save_file(weights, run.weights_file)
    return run

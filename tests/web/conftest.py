"""Runs shared by the tests of the page."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.helpers.class_folders import write_photos
from tests.helpers.dense_data import write_maps, write_squares
from tests.helpers.untrained_runs import make_untrained_run
from transxnet.runs.run_folder import Run
from transxnet.web.app import ServedPage, app


@pytest.fixture
def console() -> Console:
    """A console without a terminal; its output is in ``console.file.getvalue()``."""
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Three classes of five images each."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos", 5)


@pytest.fixture(scope="session")
def photos_run(photos, tmp_path_factory) -> Run:
    """A classifier of image colors."""
    return make_untrained_run(tmp_path_factory.mktemp("runs") / "photos", photos, img_size=64)


@pytest.fixture(scope="session")
def squares(tmp_path_factory) -> Path:
    """Images of squares with boxes and masks."""
    return write_squares(tmp_path_factory.mktemp("data") / "squares", 2, 3)


@pytest.fixture(scope="session")
def boxes_run(squares, tmp_path_factory) -> Run:
    """A detector of squares."""
    return make_untrained_run(tmp_path_factory.mktemp("runs") / "boxes", squares, task="detect", min_size=64)


@pytest.fixture(scope="session")
def masks_run(squares, tmp_path_factory) -> Run:
    """A detector of squares with instance masks."""
    return make_untrained_run(
        tmp_path_factory.mktemp("runs") / "masks", squares, task="detect", head="maskrcnn", min_size=64
    )


@pytest.fixture(scope="session")
def maps_run(tmp_path_factory) -> Run:
    """A segmenter of squares."""
    data = write_maps(tmp_path_factory.mktemp("data") / "maps", 2, 3)
    return make_untrained_run(tmp_path_factory.mktemp("runs") / "maps", data, task="segment", crop=64)


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., ServedPage]]:
    """Serve a run at a free port until the tests end."""
    pytest.importorskip("gradio")
    served: dict[tuple, ServedPage] = {}

    def start(run: Run, **options) -> ServedPage:
        key = (run.path, *sorted(options.items()))
        if key not in served:
            served[key] = app(run.path, port=0, wait=False, console=Console(file=io.StringIO()), **options)
        return served[key]

    yield start
    for one in served.values():
        one.close()

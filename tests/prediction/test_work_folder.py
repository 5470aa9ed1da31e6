import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from tests.helpers.prediction_data import CLASSES, IMAGE_COUNT, finished_chunks
from transxnet.data.reading import pixels
from transxnet.data.reading.image_decoding import open_image
from transxnet.data.reading.tar_shards import ImageLocation
from transxnet.prediction import work_folder
from transxnet.prediction.work_folder import PredictionSettings, lock_work_folder, open_work_folder
from transxnet.utils.errors import Interrupted, UserError


@contextmanager
def interrupted(monkeypatch, message: str) -> Iterator[None]:
    """Interrupt as Ctrl-C does when the image 013.png is opened."""

    def stop(path):
        if path.endswith("013.png"):
            raise KeyboardInterrupt
        return open_image(path)

    with monkeypatch.context() as context:
        context.setattr(pixels, "open_image", stop)
        with pytest.raises(Interrupted, match=message):
            yield


OLD_MANIFEST = {
    "format": 1,
    "job": {
        "model": "/runs/small", "weights": "4a99", "inputs": ["images"], "root": "/data", "top_k": 3, "batch_size": 2,
        "embed": "float32", "rows_per_file": None, "version": "0.1.0",
    },
    "pieces": [[0, 2], [77, 1]],
}  # fmt: skip
OLD_IMAGES = """\
["images/000.png","images/000.png",null,null]
["a.tar!b.png","a.tar",512,99]
["images/002.png","images/002.png",null,null]
"""


def test_folder_written_by_version_0_1_is_resumed(tmp_path):
    (tmp_path / "pieces").mkdir()
    (tmp_path / "pieces" / "00000000.parquet").touch()
    (tmp_path / "results").mkdir()
    (tmp_path / "manifest.json").write_text(json.dumps(OLD_MANIFEST))
    (tmp_path / "images.jsonl").write_text(OLD_IMAGES)
    settings = PredictionSettings("small", "4a99", ["images"], "/data", 3, 2, "float32", None, "0.1.0")
    with lock_work_folder(tmp_path):
        work = open_work_folder(tmp_path, settings, False, pytest.fail)
    assert (work.num_images, work.num_finished(), work.pending()) == (3, 2, [1])
    read = [[ImageLocation.from_line(line) for line in lines] for chunk in (0, 1) for lines in work.batches(chunk)]
    assert read == [
        [("images/000.png", "images/000.png", None, None), ("a.tar!b.png", "a.tar", 512, 99)],
        [("images/002.png", "images/002.png", None, None)],
    ]
    with pytest.raises(UserError, match="started with top_k 3, now 2"):
        open_work_folder(tmp_path, replace(settings, top_k=2), False, pytest.fail)


def test_manifest_has_the_layout_of_version_0_1(tmp_path, images):
    settings = PredictionSettings("small", "4a99", [str(images)], "", 3, 2, None, 8, "0.1.0")
    with lock_work_folder(tmp_path / "work"):
        work = open_work_folder(tmp_path / "work", settings, False, lambda found: None)
    content = json.loads((tmp_path / "work" / "manifest.json").read_text())
    assert list(content) == list(OLD_MANIFEST)
    assert list(content["job"]) == [*OLD_MANIFEST["job"], "tta"]
    assert [rows for _, rows in content["pieces"]] == [6, 2, 6, 2, 5]  # in chunks of eight rows
    assert work.chunks_of_parts() == [[0, 1], [2, 3], [4]]


def test_interrupted_prediction_refuses_other_options(run, other_run, images, tmp_path, table, opened, monkeypatch):
    with interrupted(monkeypatch, r"stopped after 12 of 21 images, .* Run the same command again to resume"):
        table()
    assert finished_chunks(tmp_path / "results.parquet") == ["00000000.parquet", "00000001.parquet"]
    for options, expected in [
        (
            {"batch_size": 4},
            "started with batch_size 3, now 4. Resume it with the same options, use --over",
        ),
        ({"top_k": 1}, "top_k 3, now 1"),
        ({"embed": True}, "embed None, now 'float32'"),
        ({"inputs": images / "deeper"}, "inputs "),
        ({"model": other_run}, f"weights, class names or preprocessing other than those of {other_run}"),
    ]:
        with pytest.raises(UserError, match=expected):
            table(**options)
    before = len(opened)
    table()
    assert len(opened) - before == IMAGE_COUNT - 12


@pytest.mark.parametrize("what", ["class_names", "preprocessing"])
def test_resume_refuses_other_class_names_or_preprocessing(run, images, tmp_path, table, monkeypatch, what):
    same = shutil.copytree(run, tmp_path / "same")
    with interrupted(monkeypatch, "stopped after 12 of 21"):
        table(model=same)
    description = json.loads((same / "model.json").read_text())
    other = {"class_names": CLASSES[::-1], "preprocessing": {**description["preprocessing"], "crop_pct": 0.5}}
    (same / "model.json").write_text(json.dumps(description | {what: other[what]}))
    with pytest.raises(
        UserError,
        match=r"weights, class names or preprocessing other than those of .*\. Resume it with the same options",
    ):
        table(model=same)
    (same / "model.json").write_text(json.dumps(description))
    table(model=same)


def test_overwrite_starts_over(table, tmp_path, opened):
    table()
    with pytest.raises(UserError, match=r"results.parquet already exists. Use --overwrite"):
        table()
    before = len(opened)
    table(overwrite=True, top_k=1)
    assert len(opened) - before == IMAGE_COUNT
    assert pq.read_schema(tmp_path / "results.parquet").names == ["path", "class1", "probability1", "error"]


def test_resume_after_the_results_were_published(table, tmp_path, monkeypatch, opened):
    def stop(work):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(work_folder.WorkFolder, "clear", stop)
        with pytest.raises(KeyboardInterrupt):
            table()
    before, seen = (tmp_path / "results.parquet").read_bytes(), len(opened)
    assert (tmp_path / "results.parquet.part").is_dir()
    table()
    assert (tmp_path / "results.parquet").read_bytes() == before
    assert len(opened) == seen
    assert not (tmp_path / "results.parquet.part").exists()


def test_second_process_on_the_same_results_is_refused(table, tmp_path):
    inside, outside = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        with lock_work_folder(tmp_path / "results.parquet.part"):
            os.write(inside[1], b".")
            os.read(outside[0], 1)
        os._exit(0)
    os.read(inside[0], 1)
    with pytest.raises(
        UserError, match=r"results.parquet.part is in use by process \d+ on .* Wait for it to finish, or"
    ):
        table()
    os.write(outside[1], b".")
    os.waitpid(child, 0)
    table()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_folder_with_foreign_files_is_left_unchanged(table, tmp_path, overwrite, begun):
    folder = tmp_path / "results.parquet.part"
    (folder / "pieces").mkdir(parents=True)
    for name in ("images.jsonl", "thesis.txt", "pieces/chess.pgn", *(["manifest.json"] if begun else [])):
        (folder / name).write_text("mine")
    before = {path: path.is_file() and path.read_text() for path in folder.rglob("*")}
    with pytest.raises(UserError, match=r"results.parquet.part, contains other files: thesis.txt"):
        table(overwrite=overwrite)
    assert {path: path.is_file() and path.read_text() for path in folder.rglob("*")} == before

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.helpers.prediction_data import IMAGE_COUNT, DarkOrLight, encoded_image, finished_chunks, write_images
from tests.helpers.shards import write_shard
from transxnet.cli import main
from transxnet.data.reading import pixels
from transxnet.data.reading.image_decoding import open_image
from transxnet.evaluation.exported_backends import ExportedBackend
from transxnet.prediction import predict_parquet, work_folder
from transxnet.prediction.loaded_model import LoadedModel
from transxnet.prediction.predict import predict
from transxnet.utils.errors import UserError


def test_csv_and_parquet_agree(table, tmp_path):
    frame = pq.read_table(table()).to_pandas()
    pandas = pytest.importorskip("pandas")
    other = pandas.read_csv(table("folder") / "predictions.csv")
    assert list(frame) == list(other)
    assert frame["path"].tolist() == other["path"].tolist()
    assert frame["class1"].fillna("").tolist() == other["class1"].fillna("").tolist()
    np.testing.assert_allclose(frame["probability1"], other["probability1"], atol=1e-6)


def test_part_files_hold_the_rows_of_one_file(table, tmp_path):
    whole = pq.read_table(table()).to_pandas()
    out = table("parts", rows_per_file=8)
    files = sorted(out.iterdir())
    assert [path.name for path in files] == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert [pq.read_metadata(path).num_rows for path in files] == [8, 8, IMAGE_COUNT - 16]
    parts = pq.read_table(out).to_pandas()
    assert parts["path"].tolist() == whole["path"].tolist()
    np.testing.assert_allclose(parts["probability1"], whole["probability1"], atol=1e-6)  # rounding depends on batches


def test_shard_members_are_predicted_like_files(images, tmp_path, table):
    files = sorted(images.glob("*.png"))
    for i in range(2):
        members = [(path.name, path.read_bytes()) for path in files[i::2]]
        write_shard(tmp_path / f"shard-{i:04d}.tar", [*members, ("000.cls", b"1"), (".hidden.png", b"")])
    shards = pq.read_table(table("a.parquet", str(tmp_path / "shard-{0000..0001}.tar"))).to_pandas()
    names = [f"{tmp_path}/shard-{i:04d}.tar!{path.name}" for i in range(2) for path in files[i::2]]
    assert shards["path"].tolist() == names
    plain = pq.read_table(table("b.parquet", [*files[::2], *files[1::2]])).to_pandas()
    assert shards.drop(columns="path").equals(plain.drop(columns="path"))
    csv = (table("folder", str(tmp_path / "shard-*.tar")) / "predictions.csv").read_text()
    assert [line.partition(",")[0] for line in csv.splitlines()[1:]] == names


def test_any_file_name_is_preserved(images, tmp_path, table):
    for name in ("new\nline.png", "ümläut 日本.png", b"not-\xff-text.png"):
        path = os.path.join(os.fsencode(tmp_path / "odd"), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(encoded_image(0))
    paths = pq.read_table(table(inputs=tmp_path / "odd"))["path"].to_pylist()
    names = sorted(Path(path).name for path in paths)
    assert names == ["new\nline.png", "not-\\udcff-text.png", "ümläut 日本.png"]


def predict_slowly(run, inputs, arguments):
    """Predict slowly in a separate process, which the test kills halfway."""

    def slow(path):
        time.sleep(0.05)
        return open_image(path)

    pixels.open_image = slow
    predict(run, inputs, **arguments)


def content(out: Path) -> list[tuple[str, bytes]]:
    """Names and contents of the result files."""
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    return [(path.name if out.is_dir() else "", path.read_bytes()) for path in files]


@pytest.mark.parametrize(("name", "options"), [("a.parquet", {}), ("parts", {"rows_per_file": 9, "workers": 1})])
def test_killed_process_resumes_without_lost_or_repeated_images(run, images, tmp_path, table, opened, name, options):
    whole = table(f"whole-{name}", **{**options, "workers": 0})
    out = tmp_path / name
    arguments = dict(batch_size=3, out=out, **{"workers": 0, **options})
    process = multiprocessing.get_context("fork").Process(target=predict_slowly, args=(run, images, arguments))
    process.start()
    while len(finished_chunks(out)) < 2 and process.is_alive():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not out.exists()
    sizes = [6, 3, 6, 3, 3] if options else [6, 6, 6, 3]
    done = len(finished_chunks(out))
    assert 2 <= done < len(sizes)
    opened.clear()
    table(name, **{**options, "workers": 0})
    assert content(out) == content(whole)
    assert len(opened) == len(set(opened)) == sum(sizes[done:])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, whole.name])


@pytest.mark.long
def test_command_resumes_after_a_kill(run, tmp_path, opened):
    images = write_images(tmp_path / "images", 120)
    words = ["predict", str(run), str(images), "--rows-per-file", "2", "--workers", "1", "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # the last bits depend on the number of threads
    command = [sys.executable, "-m", "transxnet", *words, str(tmp_path / "parts")]
    process = subprocess.Popen(command, env=os.environ | threads)
    while len(finished_chunks(tmp_path / "parts")) < 2 and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = len(finished_chunks(tmp_path / "parts"))
    assert 2 <= done < 60
    opened.clear()
    assert main([*words[:-3], "--workers", "0", "--out", str(tmp_path / "parts")]) == 0
    assert content(tmp_path / "parts") == content(tmp_path / "whole")
    assert len(opened) == len(set(opened)) == 120 - 2 * done


@pytest.mark.parametrize(
    ("words", "type_"), [([], None), (["--embed"], "float"), (["--embed", "float16"], "halffloat")]
)
def test_command_takes_the_type_of_features_or_none(run, images, tmp_path, capsys, words, type_):
    out = tmp_path / "results.parquet"
    assert main(["predict", str(run), str(images / "deeper"), "--workers", "0", *words, "--out", str(out)]) == 0
    output = capsys.readouterr().out
    assert re.search(r"2 images in 0:00:\d\d, [\d.]+ images/s\n1 images predicted, 1 failed", output)
    assert f"  {out}\n" in output
    fields = {field.name: field.type for field in pq.read_schema(out)}
    assert str(fields["embedding"].value_type if type_ else None) == str(type_)


def test_overwrite_removes_old_part_files_and_no_others(table, tmp_path):
    table("parts", rows_per_file=5)
    (tmp_path / "parts" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"part-00000.parquet already exists"):
        table("parts", rows_per_file=20)
    table("parts", rows_per_file=20, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "mine.txt", "part-00000.parquet", "part-00001.parquet",
    ]  # fmt: skip


@pytest.fixture
def disk(tmp_path):
    """A separate file system."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder]).returncode:
        pytest.skip("only root can mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_results_are_written_where_a_link_points(table, tmp_path, disk):
    (disk / "there").mkdir()
    (tmp_path / "parts").symlink_to(disk / "there")
    (tmp_path / "results.parquet").symlink_to(disk / "results.parquet")
    table("parts", rows_per_file=20)
    table("results.parquet")
    assert sorted(path.name for path in disk.rglob("*.parquet")) == [
        "part-00000.parquet", "part-00001.parquet", "results.parquet",
    ]  # fmt: skip
    assert (tmp_path / "parts").is_symlink() and (tmp_path / "results.parquet").is_symlink()
    assert not list(disk.rglob("*.part"))


def test_results_are_written_onto_a_mounted_disk(table, disk, monkeypatch):
    def stop(work):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(work_folder.WorkFolder, "clear", stop)
        with pytest.raises(KeyboardInterrupt):
            table("disk", rows_per_file=20)
    assert sorted(path.name for path in disk.iterdir()) == [".part", "part-00000.parquet", "part-00001.parquet"]
    table("disk", rows_per_file=20)  # finds the finished prediction
    assert sorted(path.name for path in disk.iterdir()) == ["part-00000.parquet", "part-00001.parquet"]


def test_no_readable_image_is_an_error_and_leaves_no_file(tmp_path, table):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(
        UserError, match=r"none of the 1 images could be predicted. Error of the last: .*bad.png: not an image"
    ):
        table(inputs=tmp_path / "bad.png")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.png"]


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("results.parquet", {"rows_per_file": 0}, "rows_per_file must be an integer of at least 1, got 0"),
        ("results.parquet", {"rows_per_file": 5}, "--rows-per-file requires a folder as --out"),
        ("results", {"embed": True}, "--embed requires Parquet output. Use --out NAME.parquet, or --rows-per"),
        ("results", {"ray": True}, "--ray requires Parquet output"),
        ("results.parquet", {"embed": "int8"}, "embed must be 'float32' or 'float16', got 'int8'"),
        ("results.parquet", {"inputs": "nowhere.tar"}, "'nowhere.tar' does not exist"),
        (
            "results.parquet",
            {"inputs": "shards"},
            r"no images found in shards. .* Pass WebDataset shards one by one or as FOLDER/\*.tar",
        ),
        ("a-folder.parquet", {}, "is a folder. Choose another --out"),
        ("a-file/results.parquet", {}, "cannot create folder"),
    ],
)
def test_bad_input_is_an_error_and_leaves_no_file(table, tmp_path, monkeypatch, out, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a.tar").touch()
    (tmp_path / "a-folder.parquet").mkdir()
    (tmp_path / "a-file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message):
        table(out, **options)
    assert sorted(tmp_path.rglob("*")) == before


def test_detector_is_refused(boxes_run, table):
    with pytest.raises(UserError, match=r"Parquet output supports classifiers only; .* Use a folder as --out"):
        table(model=boxes_run.path)


def test_exported_file_is_predicted_like_a_run(tmp_path, table, monkeypatch):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"graph")
    classifier = LoadedModel(ExportedBackend(DarkOrLight(), file))
    monkeypatch.setattr(predict_parquet, "open_model", lambda model, file, device: classifier)
    for name, gray in (("a", 0), ("b", 255)):
        Image.new("RGB", (9, 9), (gray,) * 3).save(tmp_path / f"{name}.png")
    rows = pq.read_table(table(model=file, inputs=[tmp_path / "a.png", tmp_path / "b.png"])).to_pylist()
    assert [row["class1"] for row in rows] == ["dark", "light"]
    with pytest.raises(UserError, match=r"model.onnx is an exported file and returns no features. Remove --embed"):
        table("b.parquet", model=file, embed=True)

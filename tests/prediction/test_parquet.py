"""Predicting into Parquet: what the tables say, and that they are the same whatever happens on the way."""

import json
import multiprocessing
import os
import re
import shutil
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

from tests.helpers.shards import write_shard
from tests.helpers.tables import CLASSES, picture, pieces_of, write_pictures, write_run
from transxnet.cli import main
from transxnet.data.datasets import unlabeled_dataset
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.data.reading.image_decoding import open_image
from transxnet.prediction import classifier_backends, parquet, work_folder
from transxnet.prediction.classifier_backends import classifier_predictor, exported_predictor, load_predictor
from transxnet.prediction.predict import predict
from transxnet.prediction.work_folder import held
from transxnet.runs.load import load_model
from transxnet.utils.errors import Interrupted, UserError

COUNT = 21


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "small", "test_resnet")


@pytest.fixture(scope="module")
def other_run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "other", "test_resnet", seed=1)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Pictures in two folders, one of them cut off, and a file that is none."""
    root = write_pictures(tmp_path_factory.mktemp("data") / "images", COUNT - 2)
    (root / "deeper").mkdir()
    (root / "deeper" / "a.png").write_bytes(picture(100))
    (root / "deeper" / "broken.png").write_bytes(picture(101)[:200])
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    """Of six images, so that a few make several; a file of results has as many pieces as it needs."""
    monkeypatch.setattr(work_folder, "PIECE_IMAGES", 6)


@pytest.fixture
def opened(monkeypatch) -> list:
    """The images that were opened, in this process."""
    paths = []

    def note(source):
        paths.append(source)
        return open_image(source)

    monkeypatch.setattr(unlabeled_dataset, "open_image", note)
    return paths


@pytest.fixture
def table(run, images, tmp_path, quiet):
    """A function that predicts for the pictures into a Parquet file by small batches."""

    def make(out: str = "results.parquet", inputs=images, model=run, **options) -> Path:
        options = {"batch_size": 3, "workers": 0, "console": quiet, **options}
        return predict(model, inputs, out=tmp_path / out, **options)

    return make


def test_the_table_says_what_the_network_says_of_each_image_alone(run, images, table):
    rows = pq.read_table(table()).to_pylist()
    expected = sorted(str(path) for path in images.glob("*.png")) + sorted(map(str, images.glob("deeper/*")))
    assert [row["path"] for row in rows] == expected
    trained = load_model(run)
    transform, model = trained.preprocessing.transform(), trained.model
    for row in rows:
        if row["path"].endswith("broken.png"):
            assert "truncated" in row["error"]
            assert all(row[name] is None for name in row if name not in ("path", "error"))
            continue
        shares = model(transform(open_image(row["path"]))[None])[0].softmax(0)
        order = shares.argsort(descending=True).tolist()
        assert [row[f"class{i}"] for i in (1, 2, 3)] == [CLASSES[i] for i in order]
        found = [row[f"probability{i}"] for i in (1, 2, 3)]
        np.testing.assert_allclose(found, shares[order].tolist(), atol=1e-5)
        assert row["error"] is None
    assert len({row["class1"] for row in rows}) == 4  # with the null of the broken one: pictures are told apart


def test_the_columns_are_what_pandas_and_others_read(table, run):
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(table(top_k=2))
    assert list(frame) == ["path", "class1", "probability1", "class2", "probability2", "error"]
    assert frame["probability1"].dtype == "float32"
    assert frame[frame["error"].isna()].groupby("class1").size().sum() == COUNT - 1
    metadata = pq.read_schema(table("again.parquet", top_k=2)).metadata[b"transxnet"]
    assert str(run) in metadata.decode()


def test_the_csv_and_the_table_agree(table, tmp_path):
    frame = pq.read_table(table()).to_pandas()
    pandas = pytest.importorskip("pandas")
    other = pandas.read_csv(table("folder") / "predictions.csv")
    assert list(frame) == list(other)
    assert frame["path"].tolist() == other["path"].tolist()
    assert frame["class1"].fillna("").tolist() == other["class1"].fillna("").tolist()
    np.testing.assert_allclose(frame["probability1"], other["probability1"], atol=1e-6)


def test_results_are_the_same_bytes_whoever_decodes(table):
    assert table("a.parquet").read_bytes() == table("b.parquet", workers=2).read_bytes()


def test_several_files_hold_the_rows_of_one(table, tmp_path):
    whole = pq.read_table(table()).to_pandas()
    out = table("parts", rows_per_file=8)
    files = sorted(out.iterdir())
    assert [path.name for path in files] == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert [pq.read_metadata(path).num_rows for path in files] == [8, 8, COUNT - 16]
    parts = pq.read_table(out).to_pandas()
    assert parts["path"].tolist() == whole["path"].tolist()
    np.testing.assert_allclose(parts["probability1"], whole["probability1"], atol=1e-6)  # other batches, other rounding


@pytest.mark.parametrize(("embed", "tolerance"), [(True, 1e-5), ("float16", 1e-3)])
def test_features_are_what_goes_into_the_classifier(tmp_path, images, table, embed, tolerance):
    nano = dict(depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2), img_size=32)
    run = write_run(tmp_path / "run", "transxnet_n", **nano)
    rows = pq.read_table(table(model=run, inputs=images / "deeper", embed=embed)).to_pylist()
    assert [row["embedding"] is None for row in rows] == [False, True]
    trained = load_model(run)
    pixels = trained.preprocessing.transform()(open_image(rows[0]["path"]))[None]
    pooled = trained.model.forward_features(pixels).mean((2, 3))[0].tolist()
    np.testing.assert_allclose(rows[0]["embedding"], pooled, rtol=tolerance, atol=tolerance)
    classifier = trained.model.get_classifier()
    logits = classifier.weight.detach().numpy() @ rows[0]["embedding"] + classifier.bias.detach().numpy()
    assert rows[0]["class1"] == CLASSES[logits.argmax()]


def test_members_of_shards_are_predicted_as_files_are(images, tmp_path, table):
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


def test_any_file_name_comes_back(images, tmp_path, table):
    for name in ("new\nline.png", "ümläut 日本.png", b"not-\xff-text.png"):
        path = os.path.join(os.fsencode(tmp_path / "odd"), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(picture(0))
    paths = pq.read_table(table(inputs=tmp_path / "odd"))["path"].to_pylist()
    names = sorted(Path(path).name for path in paths)
    assert names == ["new\nline.png", "not-\\udcff-text.png", "ümläut 日本.png"]


def predict_slowly(run, inputs, arguments):
    """In a process of its own: as long as it takes to be killed in the middle."""

    def slow(path):
        time.sleep(0.05)
        return open_image(path)

    unlabeled_dataset.open_image = slow
    predict(run, inputs, **arguments)


def content(out: Path) -> list[tuple[str, bytes]]:
    """The files of results with their bytes."""
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    return [(path.name if out.is_dir() else "", path.read_bytes()) for path in files]


@pytest.mark.parametrize(("name", "options"), [("a.parquet", {}), ("parts", {"rows_per_file": 9, "workers": 1})])
def test_a_killed_process_is_gone_on_with_and_no_image_is_lost_or_done_twice(
    run, images, tmp_path, table, opened, name, options
):
    whole = table(f"whole-{name}", **{**options, "workers": 0})
    out = tmp_path / name
    arguments = dict(batch_size=3, out=out, **{"workers": 0, **options})
    process = multiprocessing.get_context("fork").Process(target=predict_slowly, args=(run, images, arguments))
    process.start()
    while len(pieces_of(out)) < 2 and process.is_alive():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not out.exists()
    left = [piece for piece in (6, 6, 6, 3) if not options] or [6, 3, 6, 3, 3]
    done = len(pieces_of(out))
    assert 2 <= done < len(left)
    opened.clear()
    table(name, **{**options, "workers": 0})
    assert content(out) == content(whole)
    assert len(opened) == len(set(opened)) == sum(left[done:])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, whole.name])


@pytest.mark.long
def test_the_command_goes_on_after_a_kill(run, tmp_path, opened):
    images = write_pictures(tmp_path / "images", 120)
    words = ["predict", str(run), str(images), "--rows-per-file", "2", "--workers", "1", "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # the last bits depend on them
    command = [sys.executable, "-m", "transxnet", *words, str(tmp_path / "parts")]
    process = subprocess.Popen(command, env=os.environ | threads)
    while len(pieces_of(tmp_path / "parts")) < 2 and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = len(pieces_of(tmp_path / "parts"))
    assert 2 <= done < 60
    opened.clear()
    assert main([*words[:-3], "--workers", "0", "--out", str(tmp_path / "parts")]) == 0
    assert content(tmp_path / "parts") == content(tmp_path / "whole")
    assert len(opened) == len(set(opened)) == 120 - 2 * done


@pytest.mark.parametrize(
    ("words", "type_"), [([], None), (["--embed"], "float"), (["--embed", "float16"], "halffloat")]
)
def test_the_command_takes_the_type_of_features_or_none(run, images, tmp_path, capsys, words, type_):
    out = tmp_path / "results.parquet"
    assert main(["predict", str(run), str(images / "deeper"), "--workers", "0", *words, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"2 images in 0:00:\d\d, [\d.]+ images/s\n1 images predicted, 1 could not be read", said)
    assert f"  {out}\n" in said
    fields = {field.name: field.type for field in pq.read_schema(out)}
    assert str(fields["embedding"].value_type if type_ else None) == str(type_)


def test_stopping_says_how_to_go_on_and_other_options_are_refused(
    run, other_run, images, tmp_path, table, opened, monkeypatch
):
    def stop(path):
        if path.endswith("013.png"):
            raise KeyboardInterrupt
        return open_image(path)

    with monkeypatch.context() as context:
        context.setattr(unlabeled_dataset, "open_image", stop)
        with pytest.raises(Interrupted, match=r"stopped with 12 of 21 images done, .* Run the same command again"):
            table()
    assert pieces_of(tmp_path / "results.parquet") == ["00000000.parquet", "00000001.parquet"]
    for options, said in [
        (
            {"batch_size": 4},
            "begun with batch_size 3, now 4. Go on with it by the same options, start over with --over",
        ),
        ({"top_k": 1}, "top_k 3, now 1"),
        ({"embed": True}, "embed None, now 'float32'"),
        ({"inputs": images / "deeper"}, "inputs "),
        ({"model": other_run}, f"other weights than those of {other_run}"),
    ]:
        with pytest.raises(UserError, match=said):
            table(**options)
    before = len(opened)
    table()
    assert len(opened) - before == COUNT - 12


@pytest.mark.parametrize("what", ["class_names", "preprocessing"])
def test_what_was_begun_does_not_go_on_with_other_names_or_preprocessing(
    run, images, tmp_path, table, monkeypatch, what
):
    def stop(path):
        if path.endswith("013.png"):
            raise KeyboardInterrupt
        return open_image(path)

    same = shutil.copytree(run, tmp_path / "same")
    with monkeypatch.context() as context:
        context.setattr(unlabeled_dataset, "open_image", stop)
        with pytest.raises(Interrupted):
            table(model=same)
    description = json.loads((same / "model.json").read_text())
    other = {"class_names": CLASSES[::-1], "preprocessing": {**description["preprocessing"], "crop_pct": 0.5}}
    (same / "model.json").write_text(json.dumps(description | {what: other[what]}))
    with pytest.raises(UserError, match=r"or other class names or preprocessing\. Go on with it by the same options"):
        table(model=same)
    (same / "model.json").write_text(json.dumps(description))
    table(model=same)


def test_starting_over_does_all_of_it_again(table, tmp_path, monkeypatch, opened):
    table()
    with pytest.raises(UserError, match=r"results.parquet exists already. Write over it by --overwrite"):
        table()
    before = len(opened)
    table(overwrite=True, top_k=1)
    assert len(opened) - before == COUNT
    assert pq.read_schema(tmp_path / "results.parquet").names == ["path", "class1", "probability1", "error"]


def test_files_of_results_of_before_do_not_stay_among_the_new(table, tmp_path):
    table("parts", rows_per_file=5)
    (tmp_path / "parts" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"part-00000.parquet exists already"):
        table("parts", rows_per_file=20)
    table("parts", rows_per_file=20, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "mine.txt", "part-00000.parquet", "part-00001.parquet",
    ]  # fmt: skip


def test_a_prediction_that_ended_before_its_tidying_up_is_ended(table, tmp_path, monkeypatch, opened):
    def stop(work):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(work_folder.Work, "discard", stop)
        with pytest.raises(KeyboardInterrupt):
            table()
    before, seen = (tmp_path / "results.parquet").read_bytes(), len(opened)
    assert (tmp_path / "results.parquet.part").is_dir()
    table()
    assert (tmp_path / "results.parquet").read_bytes() == before
    assert len(opened) == seen
    assert not (tmp_path / "results.parquet.part").exists()


def test_two_processes_do_not_work_on_the_same_results(table, tmp_path):
    inside, outside = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        with held(tmp_path / "results.parquet.part"):
            os.write(inside[1], b".")
            os.read(outside[0], 1)
        os._exit(0)
    os.read(inside[0], 1)
    with pytest.raises(UserError, match=r"results.parquet.part is in use by process \d+ on .* Wait for it, or"):
        table()
    os.write(outside[1], b".")
    os.waitpid(child, 0)
    table()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_a_folder_of_somebody_else_is_left_as_it_is(table, tmp_path, overwrite, begun):
    folder = tmp_path / "results.parquet.part"
    (folder / "pieces").mkdir(parents=True)
    for name in ("images.jsonl", "thesis.txt", "pieces/chess.pgn", *(["manifest.json"] if begun else [])):
        (folder / name).write_text("mine")
    before = {path: path.is_file() and path.read_text() for path in folder.rglob("*")}
    with pytest.raises(UserError, match=r"results.parquet.part, .* holds thesis.txt, which no prediction writes"):
        table(overwrite=overwrite)
    assert {path: path.is_file() and path.read_text() for path in folder.rglob("*")} == before


@pytest.fixture
def disk(tmp_path):
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder]).returncode:
        pytest.skip("only root can mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_results_are_put_where_a_link_points(table, tmp_path, disk):
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


def test_results_are_put_onto_a_disk_that_is_mounted_there(table, disk, monkeypatch):
    def stop(work):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(work_folder.Work, "discard", stop)
        with pytest.raises(KeyboardInterrupt):
            table("disk", rows_per_file=20)
    assert sorted(path.name for path in disk.iterdir()) == [".part", "part-00000.parquet", "part-00001.parquet"]
    table("disk", rows_per_file=20)  # found again
    assert sorted(path.name for path in disk.iterdir()) == ["part-00000.parquet", "part-00001.parquet"]


def test_where_not_one_image_can_be_read_nothing_is_left(tmp_path, table):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"none of the 1 images could be read; the last: .*bad.png: not an image"):
        table(inputs=tmp_path / "bad.png")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.png"]


@pytest.mark.parametrize(
    ("out", "options", "said"),
    [
        ("results.parquet", {"rows_per_file": 0}, "rows_per_file must be a whole number of at least 1, got 0"),
        ("results.parquet", {"rows_per_file": 5}, "is the name of a file, and --rows_per_file makes a folder of them"),
        ("results", {"embed": True}, "--embed writes Parquet: name a file by --out NAME.parquet, or give --rows_per"),
        ("results", {"ray": True}, "--ray writes Parquet"),
        ("results.parquet", {"embed": "int8"}, "embed must be 'float32' or 'float16', got 'int8'"),
        ("results.parquet", {"inputs": "nowhere.tar"}, "there is no file or folder 'nowhere.tar'"),
        ("results.parquet", {"inputs": "shards"}, r"no image found in shards. .* given one by one or as FOLDER/\*.tar"),
        ("a-folder.parquet", {}, "is a folder. Choose another --out"),
        ("a-file/results.parquet", {}, "cannot make the folder"),
    ],
)
def test_bad_input_is_said_and_nothing_is_left(table, tmp_path, monkeypatch, out, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a.tar").touch()
    (tmp_path / "a-folder.parquet").mkdir()
    (tmp_path / "a-file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=said):
        table(out, **options)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_detector_makes_no_table(boxes_run, table):
    with pytest.raises(UserError, match=r"is no classifier, and its results are no table: give a folder as --out"):
        table(model=boxes_run.path)


class OpenFile:
    """An exported classifier of two classes that looks at the mean of the pixels."""

    name, task, class_names = "model.onnx", "classify", ["dark", "light"]
    preprocessing = Preprocessing(8, 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
    check_size = staticmethod(lambda height, width: None)

    def __call__(self, images):
        mean = images.mean((1, 2, 3))
        return 100 * torch.stack([-mean, mean], dim=1)


def test_a_predictor_reads_the_weights_and_moves_the_network_only_when_it_must(run, monkeypatch):
    asked = []
    monkeypatch.setattr(classifier_backends, "hash_of", lambda model: asked.append("hash") or "")
    monkeypatch.setattr(classifier_backends, "default_device", lambda: asked.append("device") or torch.device("cpu"))
    loaded = load_predictor(run)
    assert asked == []
    loaded.probabilities(torch.zeros(1, 3, 32, 32))
    loaded.probabilities(torch.zeros(1, 3, 32, 32))
    assert asked == ["device"]
    assert loaded.fingerprint == loaded.fingerprint
    assert asked == ["device", "hash"]


def test_weights_keep_their_gradients_though_classes_were_predicted(run):
    """Moving them in inference mode would make tensors of them that no gradient can come to."""
    trained = load_model(run)
    images = torch.zeros(1, 3, 32, 32)
    classifier_predictor(trained).probabilities(images)
    trained.model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in trained.model.parameters())


def test_an_exported_file_predicts_as_a_run_does(tmp_path, table, monkeypatch):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"graph")
    monkeypatch.setattr(parquet, "load_predictor", lambda model, file: exported_predictor(OpenFile(), model))
    for name, grey in (("a", 0), ("b", 255)):
        Image.new("RGB", (9, 9), (grey,) * 3).save(tmp_path / f"{name}.png")
    rows = pq.read_table(table(model=file, inputs=[tmp_path / "a.png", tmp_path / "b.png"])).to_pylist()
    assert [row["class1"] for row in rows] == ["dark", "light"]
    with pytest.raises(UserError, match=r"model.onnx gives no features. Leave out --embed"):
        table("b.parquet", model=file, embed=True)
    (tmp_path / "model.xml").write_bytes(b"graph")
    before = {name: exported_predictor(OpenFile(), tmp_path / name).fingerprint for name in ("model.onnx", "model.xml")}
    (tmp_path / "model.bin").write_bytes(b"weights")
    after = {name: exported_predictor(OpenFile(), tmp_path / name).fingerprint for name in before}
    assert after["model.xml"] != before["model.xml"]
    assert after["model.onnx"] == before["model.onnx"]  # whose weights are within, whatever lies beside it

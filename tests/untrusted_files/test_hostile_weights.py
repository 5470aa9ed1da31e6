"""Hostile checkpoints and run folders: their code does not run, and their paths are not followed."""

import io
import json
import os
import pickle
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import save_file

from transxnet.ablation.ablation_folder import AblationFolder
from transxnet.deploy.format_onnx import OnnxFormat
from transxnet.deploy.format_registry import read_metadata
from transxnet.deploy.metadata import Metadata
from transxnet.evaluation.evaluate import evaluate
from transxnet.models.checkpoints import read_checkpoint
from transxnet.models.create import create_model
from transxnet.prediction.predict import predict
from transxnet.runs.load import load_model
from transxnet.runs.run_folder import Run
from transxnet.training.callbacks import BestAndLast
from transxnet.training.init_weights import read_weights
from transxnet.training.train import train
from transxnet.utils.errors import UserError


class Attack:
    """Unpickling it runs a command that creates a file."""

    def __init__(self, marker: Path, by: Callable = os.system):
        self.marker, self.by = marker, by

    def __reduce__(self):
        text = f"touch '{self.marker}'" if self.by is os.system else f"open({str(self.marker)!r}, 'w').close()"
        return self.by, (text,)


def zipped(content: object, path: Path) -> None:
    torch.save(content, path)


def legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def bare(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def tarred(content: object, path: Path) -> None:
    """The format of PyTorch 0.1."""
    with tarfile.open(path, "w") as archive:
        for name in ("pickle", "storages", "tensors"):
            data = pickle.dumps(content, protocol=2)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def rezipped(content: object, path: Path) -> None:
    """A compressed archive with the pickle in a differently named folder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../evil/data.pkl", pickle.dumps(content, protocol=2) + b" " * 5000)
        archive.writestr("../evil/version", "3\n")


@pytest.mark.parametrize("write", [zipped, legacy, bare, tarred, rezipped], ids=lambda write: write.__name__)
@pytest.mark.parametrize("ending", ["pth", "ckpt", "pth.tar", "safetensors"])
@pytest.mark.parametrize("by", [os.system, exec, eval], ids=lambda by: by.__name__)
def test_no_checkpoint_format_runs_code(tmp_path, write, ending, by):
    path, marker = tmp_path / f"evil.{ending}", tmp_path / "marker"
    content = {"state_dict": {"a": torch.zeros(2)}, "extra": Attack(marker, by)}
    write(content, path)
    for use in (
        lambda: read_checkpoint(path),
        lambda: read_weights(path),
        lambda: load_model("transxnet_n", path),
        lambda: create_model("transxnet_n", pretrained=True, pretrained_cfg_overlay=dict(file=str(path))),
    ):
        with pytest.raises(UserError):
            use()
    assert not marker.exists()


def test_attack_of_these_tests_works(tmp_path):
    pickle.loads(pickle.dumps(Attack(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


def test_compressed_archive_bomb_is_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    with pytest.raises(UserError, match="truncated or not a checkpoint"):
        read_checkpoint(path)


def lying_safetensors() -> dict[str, bytes]:
    """Files with a false header."""

    def file(header: bytes, length: int | None = None, data: bytes = bytes(16)) -> bytes:
        return struct.pack("<Q", len(header) if length is None else length) + header + data

    def tensor(**changes) -> bytes:
        return json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes}).encode()

    return {
        "header longer than the file": file(tensor(), 2**40),
        "header of 2^64": file(tensor(), 2**64 - 1),
        "header cut": file(tensor(), 10),
        "no header": b"\x01",
        "offsets beyond": file(tensor(data_offsets=[0, 2**50])),
        "offsets reversed": file(tensor(data_offsets=[16, 0])),
        "offsets negative": file(tensor(data_offsets=[-16, 0])),
        "shape too large": file(tensor(shape=[2**40, 2**40])),
        "shape overflowing": file(tensor(shape=[2**32, 2**32 + 1])),
        "shape negative": file(tensor(shape=[-2, -2])),
        "shape of text": file(tensor(shape=["2", 2])),
        "unknown type": file(tensor(dtype="os.system")),
        "a gap": file(tensor(data_offsets=[8, 24]), data=bytes(24)),
        "data missing": file(tensor(), data=bytes(4)),
        "not JSON": file(b"{" * 50),
        "nested": file(b'{"a":' * 5000),
        "names repeated": file(tensor()[:-1] + b"," + tensor()[1:]),
    }


@pytest.mark.parametrize("kind", lying_safetensors())
def test_safetensors_with_false_headers_are_refused(tmp_path, kind):
    path = tmp_path / "lie.safetensors"
    path.write_bytes(lying_safetensors()[kind])
    if kind == "names repeated":  # the later name counts, and it matches
        assert list(read_checkpoint(path)) == ["a"]
        return
    with pytest.raises(UserError, match="truncated or not a checkpoint"):
        read_checkpoint(path)


def test_tensors_larger_than_their_storage_are_refused(tmp_path):
    """A view beyond its storage would read or write other memory."""
    path = tmp_path / "view.pth"
    torch.save({"a": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    short = next(name for name in entries if name.endswith("data/0"))
    entries[short] = entries[short][:4]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match="truncated or not a checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "option",
    [
        "checkpoint_path='evil.pth'",
        "pretrained_cfg_overlay={'file':'evil.pth'}",
        "pretrained_cfg={'file':'evil.pth'}",
        "pretrained=true",
        "cache_dir=elsewhere",
    ],
)
def test_model_name_opens_no_files(tmp_path, option):
    """Names may come from untrusted recipes and runs, and timm would open the files in these options."""
    for name in ("test_resnet", "transxnet_n"):
        with pytest.raises(UserError, match="selects weights and is not accepted as a model option"):
            create_model(f"{name}@{option}")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f'model: "test_resnet@{option}"\n')
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="selects weights and is not accepted"):
        train(tmp_path / "data", task="classify", recipe=recipe, out=tmp_path / "run")


@pytest.mark.parametrize("name", ["hf-hub:evil/model", "local-dir:/tmp", "os:system", "transxnet.cli:main", "../x"])
def test_model_name_from_elsewhere_is_refused(name):
    with pytest.raises(UserError, match="unknown model"):
        create_model(name)


# Run folders


SEEN = {"img_size": 32, "crop_pct": 0.9, "interpolation": "bicubic", "mean": [0.5], "std": [0.5]}


def tampered(run: Run, **changes) -> None:
    description = json.loads(run.model_file.read_text())
    run.model_file.write_text(json.dumps(description | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2, "transxnet": "9.0"}, r"newer transxnet \(9.0\)"),
        ({"format": "1"}, "damaged or not a transxnet model"),
        ({"format": None}, "damaged or not a transxnet model"),
        ({"architecture": "os.system"}, "unknown model"),
        ({"architecture": ["transxnet_n"]}, "architecture is not a name"),
        ({"architecture": "hf-hub:evil/model"}, "unknown model"),
        ({"model_args": {"checkpoint_path": "/evil.pth"}}, "selects weights and is not accepted"),
        ({"model_args": {"pretrained": True}}, "selects weights and is not accepted"),
        ({"model_args": {"local_conv": "os.system"}}, "."),
        ({"model_args": {"checkpoint": "/evil.pth"}}, "must not contain a checkpoint"),
        ({"model_args": [1]}, "model_args are not options"),
        ({"model_args": {"img_size": 10**6}}, "1 to 16384 pixels"),
        ({"model_args": {"img_size": "large"}}, "1 to 16384 pixels"),
        ({"class_names": "abc"}, "not a list of names"),
        ({"class_names": []}, "not a list of names"),
        ({"class_names": ["a", {"b": 1}]}, "not a list of names"),
        ({"class_names": ["a", "a", "b"]}, "class_names contains duplicates"),
        ({"task": "run"}, "."),
        ({"preprocessing": SEEN | {"img_size": 10**6}}, "1 to 16384 pixels"),
        ({"preprocessing": SEEN | {"crop_pct": 0}}, "crop_pct must be a finite number"),
        ({"preprocessing": SEEN | {"std": [0]}}, "std other than 0"),
        ({"preprocessing": SEEN | {"mean": ["x"]}}, "must contain finite numbers"),
        ({"preprocessing": SEEN | {"mean": [1e999]}}, "must contain finite numbers"),
        ({"preprocessing": SEEN | {"command": "rm"}}, "command"),
        ({"preprocessing": None}, "damaged or not a transxnet model"),
    ],
)
def test_false_description_of_a_run_is_refused(run, changes, message):
    tampered(run, **changes)
    with pytest.raises(UserError, match=message):
        load_model(run.path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, "9" * 5000, "\xff", '{"format": 1}'])
def test_damaged_description_of_a_run_is_refused(run, text):
    run.model_file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="damaged or not a transxnet model"):
        load_model(run.path)


EXPORTED = Metadata(
    task="classify", model="test_resnet", source="run", class_names=["a", "b"], input="float32",
    mean=(0.5,), std=(0.5,), size=(32, 32), batch=1, dynamic=(),
    resize={"img_size": 32, "crop_pct": 0.9, "interpolation": "bicubic"},
    outputs=("logits",), score_threshold=0.0, dtype="float32", versions={},
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": "abc"}, "not a list of names"),
        ({"class_names": {"a": 1}}, "not a list of names"),
        ({"class_names": ["a", 1]}, "not a list of names"),
        ({"resize": EXPORTED.resize | {"img_size": 10**6}}, "1 to 16384 pixels"),
        ({"resize": EXPORTED.resize | {"img_size": "large"}}, "1 to 16384 pixels"),
        ({"resize": EXPORTED.resize | {"crop_pct": 0}}, "crop_pct must be a finite number"),
        ({"resize": EXPORTED.resize | {"command": "rm"}}, "command"),
        ({"resize": {"img_size": 32}}, "crop_pct"),
        ({"resize": [1]}, "resize is not a mapping"),
        ({"resize": {"scale": [10**6, 32], "multiple": 32}}, "1 to 16384 pixels"),
        ({"resize": {"min_size": 10**6, "max_size": 32}}, "1 to 16384 pixels"),
        ({"mean": [float("inf")]}, "must contain finite numbers"),
        ({"mean": 1}, "not iterable"),
        ({"std": [0]}, "std other than 0"),
        ({"size": [10**6, 32]}, "1 to 16384 pixels"),
    ],
)
def test_false_metadata_of_an_exported_file_is_refused(tmp_path, monkeypatch, changes, message):
    (tmp_path / "net.onnx").touch()
    texts = EXPORTED.to_texts()
    monkeypatch.setattr(OnnxFormat, "read_texts", lambda self, path: texts)
    assert read_metadata(tmp_path / "net.onnx") == EXPORTED
    texts |= {f"transxnet.{name}": json.dumps(value) for name, value in changes.items()}
    with pytest.raises(UserError, match=rf"cannot read the metadata of .*net.onnx.*{message}"):
        read_metadata(tmp_path / "net.onnx")


def test_weights_of_a_run_with_code_are_refused(run, tmp_path):
    """The file extension does not matter."""
    zipped({"a": Attack(tmp_path / "marker")}, run.weights_file)
    with pytest.raises(UserError, match="truncated or not a checkpoint"):
        load_model(run.path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("write", [zipped, legacy])
def test_resumed_checkpoint_with_code_is_refused(interrupted, tmp_path, quiet, write):
    content = dict(torch.load(interrupted.last_checkpoint, weights_only=True))
    write(content | {"extra": Attack(tmp_path / "marker")}, interrupted.last_checkpoint)
    with pytest.raises(UserError, match="cannot resume from"):
        train(resume=interrupted.path, console=quiet)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("best", ["/elsewhere/..", "..", "/", "config.yaml", "../../last.ckpt/.."])
def test_checkpoint_cannot_remove_other_files(tmp_path, quiet, best):
    """Lightning deletes the previous best checkpoint, and would delete the parent folder of the run."""
    saved = BestAndLast(Run(tmp_path), "val_accuracy", Console(quiet=True))
    state = saved.state_dict() | dict(best_model_path=best, kth_best_model_path=best, best_k_models={best: 0.1})
    resumed = BestAndLast(Run(tmp_path), "val_accuracy", Console(quiet=True))
    resumed.load_state_dict(state)  # missing files are ignored
    assert resumed.kth_best_model_path == ""
    torch.save({"callbacks": {resumed.state_key: state}}, tmp_path / "best.ckpt")
    with pytest.raises(UserError, match="as the best checkpoint"):
        resumed.load_state_dict(state)
    good = str(tmp_path / "elsewhere" / "best.ckpt")
    state |= dict(best_model_path=good, kth_best_model_path=good, best_k_models={good: 0.1})
    torch.save({"callbacks": {resumed.state_key: state}}, tmp_path / "best.ckpt")
    resumed.load_state_dict(state)
    assert resumed.kth_best_model_path == str(tmp_path / "best.ckpt")


# Options


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{to}: &{to} [{', '.join([f'*{of}'] * 8)}]\n" for of, to in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGED = "a: &a {epochs: 1}\n" + "".join(
    f"{to}: &{to} {{<<: [{', '.join([f'*{of}'] * 8)}]}}\n" for of, to in zip("abcdefghi", "bcdefghij", strict=True)
)
BAD_YAML = {
    "a tag that runs a command": "epochs: !!python/object/apply:os.system ['touch {marker}']",
    "a tag that makes an object": "model: !!python/object/new:os.popen ['touch {marker}']",
    "a tag that names a function": "opt: !!python/name:os.system",
    "a tag that imports": "opt: !!python/module:os",
    "a tag of its own": "opt: !evil x",
    "aliases without end": BOMB + "epochs: *j",
    "merged aliases without end": MERGED,
    "an alias to itself": "epochs: &a [*a]",
    "lists in lists": "epochs: " + "[" * 100_000,
    "items in items": "- " * 20_000,
    "an invalid date": "epochs: 2001-99-99",
    "an invalid integer": "epochs: !!int ''",
    "a number without end": "epochs: " + "9" * 5000,
    "an invalid float": "lr: !!float abc",
    "invalid bytes": "out: !!binary '*'",
    "keys that are lists": "? [1, 2]\n: 3",
    "keys that are numbers": "1: 2",
    "a list": "- epochs",
    "text": "epochs",
    "a null byte": "epochs: \0",
    "no UTF-8": "epochs: \udcff",
    "far too long": "epochs: 1 # " + "x" * 2_000_000,
    "an option of another type": "epochs: {a: 1}",
    "an infinite number": "lr: .inf",
    "no option": "os.system: 1",
    "no task": "task: evil",
    "a task that is a list": "task: [classify]",
    "two documents": "epochs: 1\n---\nepochs: 2",
}


@pytest.mark.parametrize("kind", BAD_YAML)
def test_bad_yaml_as_a_recipe_is_refused(tmp_path, kind):
    path, marker = tmp_path / "recipe.yaml", tmp_path / "marker"
    path.write_text(BAD_YAML[kind].replace("{marker}", str(marker)), encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError, match=r"recipe\.yaml"):
        train(tmp_path, recipe=path, out=tmp_path / "run")
    assert not marker.exists()


@pytest.mark.parametrize("kind", BAD_YAML)
def test_bad_yaml_as_the_config_of_a_run_is_refused(run, tmp_path, kind, quiet):
    marker = tmp_path / "marker"
    text = BAD_YAML[kind].replace("{marker}", str(marker))
    run.config_file.write_text(text, encoding="utf-8", errors="surrogateescape")
    for use in (lambda: train(resume=run.path, console=quiet), lambda: evaluate(run.path, console=quiet)):
        with pytest.raises(UserError, match=r"config\.yaml is damaged or not part of a run"):
            use()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "of_loading", "of_resuming"),
    [
        ("config.yaml", "config.yaml is missing", "config.yaml is missing"),
        pytest.param("model.json", "is not finished", None, marks=pytest.mark.long),
        ("model.safetensors", "does not exist", None),
        ("environment.json", None, "environment.json is damaged or not part of a run: it is a pipe"),
    ],
)
def test_pipe_in_a_run_folder_does_not_hang(run, quiet, name, of_loading, of_resuming):
    (run.path / name).unlink()
    os.mkfifo(run.path / name)
    uses = (lambda: load_model(run.path), of_loading), (lambda: train(resume=run.path, console=quiet), of_resuming)
    for use, message in uses:
        with nullcontext() if message is None else pytest.raises(UserError, match=re.escape(message)):
            use()


@pytest.mark.parametrize("name", ["../../home", "/tmp/evil", "a/b", "..\\x", "a\nb"])
def test_ablation_writes_nowhere_else(tmp_path, name):
    row = dict(name=name, label="row", options="", quotes=[])
    table = dict(name="t", title="t", model="test_resnet", variants=[row], note="")
    content = dict(ablation=table, seeds=[0], rounds=0, options={}, command="x")
    (tmp_path / AblationFolder.PLAN_FILE).write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="is not a valid name of a run folder"):
        AblationFolder.read(tmp_path)


def test_names_of_images_write_no_file_outside_of_the_folder(run, tmp_path, quiet):
    from PIL import Image

    deep = tmp_path / "in" / ".." / "in"
    (tmp_path / "in").mkdir()
    for name in ("..png.png", "a\nb.png", "~.png", "-rf.png", "%2e%2e%2f.png", "C:\\x.png"):
        Image.new("RGB", (32, 32)).save(deep / name)
    predict(run.path, [deep], out=tmp_path / "out", workers=0, console=quiet)
    assert sorted(os.listdir(tmp_path)) == ["finished", "images", "in", "out"]
    assert sorted(os.listdir(tmp_path / "out")) == ["predictions.csv", "predictions.jsonl"]


def test_weights_of_another_model_are_refused(run):
    save_file({"a": torch.zeros(2)}, run.weights_file)
    with pytest.raises(UserError, match="damaged or not a transxnet model"):
        load_model(run.path)

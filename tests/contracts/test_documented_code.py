"""The code blocks of the documentation.

All blocks are checked: the real parser accepts each ``transxnet`` command; each Python block compiles and uses only
names and arguments that exist. ``make test-all`` also runs them, file by file and in order, as described at SMALLER
and NOT_RUN.
"""

import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

import transxnet
from tests.helpers import fill
from tests.helpers.dense_data import write_maps, write_squares, write_voc_squares
from tests.helpers.documented_code import ROOT, SHELL, Block, blocks, transxnet_arguments
from tests.helpers.shards import encode, write_shard, write_shards
from transxnet.cli.command import Command
from transxnet.cli.command_table import COMMANDS

FRAGMENTS = "CONTRIBUTING.md"
"""Its Python blocks are parts of new modules that the reader writes, so they are not checked here."""

PYTHON = [block for block in blocks("python") if block.file.name != FRAGMENTS]
COMMAND_LINES = [(block.place, words) for block in blocks(*SHELL) for words in transxnet_arguments(block)]

SMALLER = {
    r"(transxnet train (photos|wds/shards|cells/labels.csv|cells))(?! --img)": r"\1 --img-size 64 EPOCH",
    r"(transxnet train (DATA|coco|VOC2012|shapes/annotations.json))(?! --task segment)": r"\1 --min-size 64 EPOCH",
    r"(transxnet train (DATA --task segment|roads))": r"\1 --crop 64 EPOCH",
    r"(transxnet pretrain photos)": r"\1 --img-size 64 EPOCH",
    r"(transxnet ablate table7 --data photos)": r"\1 --model 'MODEL' --rounds 0 --img-size 64 EPOCH",
    r"--average (last|best)=5": r"--average \1=1",
    r"--epochs (3|4)00": r"--epochs \1",
    r"EPOCH": "--epochs 1 --warmup-epochs 0 --batch-size 4 --workers 0",
    r"MODEL": "transxnet_n@depths=(1,1,1,1)",
    r"(transxnet bench)": r"\1 --batch-size 1 --rounds 1 --seconds 0.1",
    r"\{(0+)\.\.\d+\}": r"{\1..\1}",  # one shard
    r'(transxnet.pretrain\("photos")': r"\1, epochs=50",
    r"epochs=50": "epochs=1, warmup_epochs=0, batch_size=4, workers=0, img_size=64",
    r"pretrained=True(?!, pretrained_cfg)": 'pretrained=True, pretrained_cfg_overlay=dict(file="transx-t.pth.tar")',
}
"""Replacements in what is run, so that it is fast and needs no download."""

NOT_RUN = {
    r"^(make|pip|pipx|git|PYTHONPATH=src|\.venv/bin/python) ": "not a command of this package",
    r"^(\.venv/bin/|python -m )": "of the repository, not of the package",
    r"train elpv|ELPV|runs/demo|--data digits|ablate-table7/|train scenes|SCENES": "trains for minutes to hours",
    r"IMAGENET|/data/|COCO|ADE20K": "needs large data sets",
    r"hfds/|tfds/|(erf|check) .*resnet50|photos --pretrained": "downloads data or weights",
    r"--devices 8|^torchrun|^srun": "needs several GPUs or machines",
    r"--ray": "starts a cluster",
    r"transxnet[ .]study|transxnet compare": "needs many runs; see tests/studies",
    r"transxnet app": "serves until it is interrupted",
    r"--int8": "calibrates for minutes; see tests/deploy",
    r"transxnet push": "uploads",
    r"transxnet completion": "writes into the home folder",
}
"""Commands and Python blocks, as regular expressions, that are only checked."""

PRELUDE = "import torch, transxnet, timm\nfrom PIL import Image\n"
PRELUDE += 'image, tensor = Image.open("a.jpg"), torch.rand(3, 64, 64)\n'
"""What Python blocks expect to exist."""

RUNNABLE = [block for block in blocks("python", *SHELL) if block.file.parts[-2:] != ("benchmarks", "README.md")]
RUNNABLE = [block for block in RUNNABLE if block.file.name != FRAGMENTS]


def steps(block: Block) -> list[str]:
    """The commands of a shell block; a Python block is one step."""
    return [block.code] if block.language == "python" else block.lines()


def reason_not_to_run(step: str) -> str | None:
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, step)), None)


@pytest.mark.parametrize(("place", "words"), COMMAND_LINES, ids=[place for place, _ in COMMAND_LINES])
def test_command_is_accepted_by_the_parser(place, words):
    command = COMMANDS[words[0]]
    if words[1:] in (["--help"], ["--help-all"]):
        return
    with patch.object(type(command), "call", autospec=True) as call:
        command.run(words[1:])
    call.assert_called_once()
    assert isinstance(command, Command)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_python_block_uses_existing_names_and_arguments(block):
    tree = ast.parse(block.code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "transxnet":
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "transxnet":
                    importlib.import_module(alias.name)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "transxnet":
            assert hasattr(transxnet, node.attr), node.attr
        elif isinstance(node, ast.Call) and (name := re.fullmatch(r"transxnet\.(\w+)", ast.unparse(node.func))):
            arguments = {str(keyword.arg): keyword.value for keyword in node.keywords}
            inspect.signature(getattr(transxnet, name[1])).bind(*node.args, **arguments)


def test_blocks_are_found():
    assert len({place.partition(":")[0] for place, _ in COMMAND_LINES}) >= 9
    assert len(PYTHON) >= 4


def test_each_replacement_and_exception_is_needed():
    code = [step for block in blocks("python", *SHELL) for step in steps(block)]
    text = "\n".join([*code, *SMALLER.values()])
    assert [pattern for pattern in SMALLER if not re.search(pattern, text)] == []
    assert [pattern for pattern in NOT_RUN if not any(re.search(pattern, step) for step in code)] == []


def write_images(root: Path, *names: str) -> None:
    noise = np.random.default_rng(0)
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = noise.normal(60 + 130 * (number % 2), 30, (40, 48, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / name)


@pytest.fixture(scope="module")
def example_data(tmp_path_factory) -> Path:
    """The images, annotations and weights that the documentation names, as small as possible."""
    root = tmp_path_factory.mktemp("documentation")
    for folder, count in (("photos", 10), ("clinic-b", 3)):
        write_images(root, *(f"{folder}/{name}/{i}.jpg" for i in range(count) for name in ("cat", "dog")))
    write_images(root, "photos/1.jpg", "photos/2.jpg", "a.jpg", "b.jpg", "archive/old/d.png", "large.tif")
    write_images(root, "new/a.jpg", "new/b.jpg", "new/more/c.jpg")
    write_images(root, *(f"cells/images/{i // 2}_{i % 2}.png" for i in range(20)))
    (root / "weights.csv").write_text("class,weight\ncat,1\ndog,2\n")
    rows = [f"{i // 2}_{i % 2}.png,{'ab'[i % 2]},1" for i in range(20)]
    (root / "cells/labels.csv").write_text("\n".join(["file,label,confidence", *rows]))
    for name in ("other.csv", "new.csv"):
        (root / name).write_text("\n".join(["path,label,weight", *(f"cells/images/{row}" for row in rows)]))
    (root / "weights.csv").write_text("class,weight\ncat,1\ndog,2\n")
    for name in ("DATA", "coco", "other"):
        write_squares(root / name)
    write_maps(root / "DATA")
    write_maps(root / "roads")
    write_voc_squares(root / "VOC2012")
    shutil.copytree(root / "coco" / "train", root / "shapes")
    one = encode(Image.open(root / "a.jpg"))
    (root / "shards").mkdir()
    samples = [[(one, label % 10) for label in range(20)]]
    write_shards(root / "shards", {"train": samples, "validation": samples})
    for name in ("000", "photos-0000"):
        write_shard(root / "shards" / f"{name}.tar", {"a.png": one, "b.png": one})
    tensors = {name: torch.as_tensor(value).float() for name, value in fill.checkpoint("t", "classifier").items()}
    torch.save({"state_dict_ema": tensors}, root / "transx-t.pth.tar")
    return root


@pytest.fixture(scope="module")
def example_runs(example_data, tmp_path_factory) -> dict[str, Path]:
    """A classifier and a detector by the names that the documentation gives to trained runs."""
    root = tmp_path_factory.mktemp("runs")
    options = dict(model="transxnet_n@depths=(1,1,1,1)", epochs=1, warmup_epochs=0, batch_size=4, workers=0)
    classifier = transxnet.train(example_data / "photos", img_size=64, out=root / "classifier", **options)
    detector = transxnet.train(example_data / "coco", min_size=64, out=root / "detector", **options)
    names = ("RUN", "runs/transxnet_t-photos-1", "runs/transxnet_b-photos-1", "runs/elpv-1")
    return dict.fromkeys(names, classifier.path) | {"runs/scenes-1": detector.path}


@pytest.fixture
def folder(example_data, example_runs, tmp_path, request) -> Path:
    """A copy of the data, with those runs that the file does not train itself."""
    root = Path(shutil.copytree(example_data, tmp_path / "folder"))
    text = "\n".join(step for block in request.getfixturevalue("page") for step in steps(block))
    trained = re.findall(r"^transxnet train (?!.*--(?:resume|model) )(\S+)", text, re.MULTILINE)
    (root / "runs").mkdir()
    for name, run in example_runs.items():
        if name == "runs/transxnet_t-photos-1" and "photos" in trained:
            continue
        if name == "RUN" and "DATA" in trained:
            (root / name).symlink_to("runs/transxnet_t-DATA-1")
        else:
            shutil.copytree(run, root / name)
    return root


@pytest.mark.long
@pytest.mark.parametrize(
    "page",
    [
        pytest.param([block for block in RUNNABLE if block.file == file], id=file.relative_to(ROOT).as_posix())
        for file in dict.fromkeys(block.file for block in RUNNABLE)
    ],
)
def test_blocks_run(page, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    for block in page:
        for step in steps(block):
            if reason_not_to_run(step):
                continue
            for pattern, replacement in SMALLER.items():
                step = re.sub(pattern, replacement, step)
            if block.language == "python":
                command = [sys.executable, "-c", PRELUDE + step]
            else:
                function = f'transxnet() {{ "{sys.executable}" -m transxnet "$@"; }}'
                command = ["bash", "-O", "globstar", "-c", f"{function}\n{step}"]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, f"{block.place}\n{step}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"

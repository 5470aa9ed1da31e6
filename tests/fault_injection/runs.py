"""Trainings to interrupt, and the comparison of their results."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.helpers.class_folders import write_photos
from tests.helpers.dense_data import write_maps, write_squares
from tests.helpers.shards import write_shards
from transxnet.runs.run_folder import Run

_ALL = dict(model="transxnet_n", epochs=3, lr=1e-3, warmup_epochs=1, drop_path_rate=0.2, device="cpu", workers=0)
CLASSIFY = dict(
    **_ALL | dict(model="test_resnet", lr=3e-3), img_size=32, batch_size=8, mixup=0.3, cutmix=0.5, drop_rate=0.2,
    random_erasing=0.3, color_jitter=0.4, ema_decay=0.9,
)  # fmt: skip
DENSE = _ALL | dict(model="test_resnet", epochs=2, batch_size=2, vflip=0.5, photometric="true", ema_decay=0.9)
KINDS: dict[str, dict[str, Any]] = {
    "classify": CLASSIFY,
    "classify, our network, no average": CLASSIFY | dict(model="transxnet_n", ema_decay=0, accumulate=2),
    "classify, two workers": CLASSIFY | dict(workers=2, val_every=2, select="last"),
    "classify, shards": CLASSIFY | dict(num_classes=3),
    "detect": DENSE | dict(task="detect", min_size=32, drop_path_rate=0),
    "detect and mask": DENSE | dict(task="detect", min_size=32, head="maskrcnn"),
    "segment": DENSE | dict(task="segment", crop=32, accumulate=2, select="last"),
    "segment, our network": DENSE | dict(task="segment", crop=32, model="transxnet_n"),
}
"""Options of the trainings: all sources of randomness are enabled."""
for _name in ("detect", "detect and mask", "segment"):
    KINDS[_name].pop("drop_path_rate")


def write_data(kind: str, folder: Path) -> Path | str:
    """Write the training images."""
    if "shards" in kind:
        return write_photo_shards(folder / "shards")
    task = kind.split(",")[0].split()[0]
    return {
        "classify": lambda: write_photos(folder / "photos", 15),
        "detect": lambda: write_squares(folder / "squares"),
        "segment": lambda: write_maps(folder / "maps"),
    }[task]()


def write_photo_shards(folder: Path) -> str:
    """The images of ``write_photos`` in shards."""
    photos = write_photos(folder / "photos", 15)
    classes = sorted(photos.iterdir())
    images = [(file.read_bytes(), classes.index(file.parent)) for file in sorted(photos.glob("*/*.png"))]
    return write_shards(folder, {"train": [images[::5], images[1::5]], "validation": [images[2::5]]})


@dataclass(frozen=True)
class Ended:
    """Result of a process: exit status (negative for a signal), duration in seconds and output."""

    status: int
    seconds: float
    output: str


class Server:
    """Starts each training in a process of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment["COLUMNS"] = "10000"
        command = [sys.executable, "-m", "tests.fault_injection.server"]
        self._errors = (folder / "server.log").open("w")
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self._logs = 0

    def run(self, *words: object, **more: Any) -> Ended:
        """Run ``transxnet WORDS``; ``trap``, ``signal`` and ``after`` as in :mod:`tests.fault_injection.server`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._logs += 1
        log = self.folder / f"{self._logs}.log"
        job = {"words": [str(word) for word in words], "folder": str(self.folder), "log": str(log), **more}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, (self.folder / "server.log").read_text()[-3000:]
        return Ended(**json.loads(answer), output=log.read_text())

    def train(self, data: Path | str, out: Path, options: dict[str, Any], **more: Any) -> Ended:
        """Train with the given options into a folder."""
        given = [word for name, value in options.items() for word in (f"--{name}", value)]
        return self.run("train", data, "--out", out, *given, **more)

    def resume(self, out: Path, **more: Any) -> Ended:
        """Resume a run."""
        return self.run("train", "--resume", out, **more)

    def close(self) -> None:
        """Stop the server."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._errors.close()


@dataclass(frozen=True)
class Whole:
    """An uninterrupted training."""

    kind: str
    data: Path | str
    run: Run
    seconds: float
    begins: float
    """Seconds until its run folder was created; before that, nothing can be lost."""

    @classmethod
    def train(cls, server: Server, kind: str, folder: Path) -> "Whole":
        """Run the training of this kind."""
        data = write_data(kind, folder)
        ended = server.train(data, folder / "whole", KINDS[kind])
        assert ended.status == 0, ended.output
        run = Run(folder / "whole")
        made = run.config_file.stat().st_mtime
        finished = run.report_file.stat().st_mtime
        return cls(kind, data, run, ended.seconds, max(0.0, ended.seconds - (finished - made)))


def finish(server: Server, whole: Whole, out: Path, most: int = 3) -> Ended:
    """Resume a run until it is finished, or start it again if there is no run folder; returns the last result."""
    for _ in range(most):
        begun = (out / "config.yaml").is_file()
        ended = server.resume(out) if begun else server.train(whole.data, out, KINDS[whole.kind])
        if ended.status == 0:
            break
    return ended


def differences(run: Run, whole: Run) -> list[str]:
    """List what differs bitwise between two runs, except for durations."""
    found = []
    names = {path.name for path in whole.path.iterdir()}
    if extra := {path.name for path in run.path.iterdir()} ^ names:
        found.append(f"files {sorted(extra)}")
    if _lines(run) != _lines(whole):
        found.append("metrics.csv")
    for name in ("results.json", "predictions.csv", "detections.json", "model.json"):
        if name in names and _bytes(run.path / name) != _bytes(whole.path / name):
            found.append(name)
    mine, theirs = load_file(run.weights_file), load_file(whole.weights_file)
    found += [f"model.safetensors: {name}" for name in theirs if not _same(mine.get(name), theirs[name], name)]
    for name in ("last.ckpt", "best.ckpt"):
        mine, theirs = (torch.load(r.path / name, weights_only=True) for r in (run, whole))
        found += [f"{name}: {where}" for where in _unlike(mine, theirs)]
    return found


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _lines(run: Run) -> list[list[str]]:
    """The rows of metrics.csv as text, without the seconds."""
    lines = [line.split(",") for line in run.metrics_file.read_text().splitlines()]
    place = lines[0].index("seconds")
    return [line[:place] + line[place + 1 :] for line in lines]


_OF_THE_RUN = (
    "seconds",
    "dirpath",
    "best_model_path",
    "kth_best_model_path",
    "last_model_path",
    "_batches_that_stepped",
)
"""Checkpoint entries with times or paths, and Lightning's step count for loggers, which is not restored correctly."""


_EVER_VALIDATED = ".val_loop.batch_progress.total"
"""Lightning's count of all batches ever validated: an interrupted validation is repeated and counted twice."""


def _unlike(one: Any, other: Any, where: str = "") -> list[str]:
    """List where two checkpoints differ."""
    if where.endswith(_EVER_VALIDATED):
        return []
    if isinstance(other, dict) and isinstance(one, dict):
        if where.endswith("best_k_models"):
            one, other = {"": [*one.values()]}, {"": [*other.values()]}
        names = [name for name in {*one, *other} if name not in _OF_THE_RUN]
        return [place for n in names for place in _unlike(one.get(n), other.get(n), f"{where}.{n}")]
    if isinstance(other, (list, tuple)) and isinstance(one, (list, tuple)) and len(one) == len(other):
        return [p for n, pair in enumerate(zip(one, other, strict=True)) for p in _unlike(*pair, f"{where}.{n}")]
    return [] if _same(one, other, where) else [where]


def _same(one: Any, other: Any, where: str) -> bool:
    if isinstance(other, torch.Tensor):
        return isinstance(one, torch.Tensor) and torch.equal(one, other)
    if isinstance(other, float) and isinstance(one, float) and math.isnan(other):
        return math.isnan(one)
    return bool(one == other)


def forget(out: Path) -> None:
    """Delete a run."""
    shutil.rmtree(out, ignore_errors=True)

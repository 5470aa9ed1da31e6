"""Memory of prediction by number of images. Run: python benchmarks/predict_memory.py 2000 20000

Each number is measured in its own process, on generated images of 8x8 pixels: files in one folder, or members of one
shard (--shard). --find stops after the images are found, before prediction starts. The measure is anonymous memory,
from Linux's /proc: pages of libraries come and go as they are used.
"""

import argparse
import io
import os
import re
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import timm
from PIL import Image
from rich.console import Console

from transxnet.prediction.predict import predict
from transxnet.prediction.work_folder import PredictionSettings, lock_work_folder, open_work_folder
from transxnet.runs.load import save_model
from transxnet.runs.run_folder import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="+")
    parser.add_argument("--shard", action="store_true")
    parser.add_argument("--find", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    print("images      at the start    peak    peak of a worker that decodes")
    for count in options.counts:
        if (child := os.fork()) == 0:
            measure(count, options.shard, options.find, options.workers)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"{count} images: failed")


def measure(count: int, shard: bool, find: bool, workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        images = make_shard(root / "a.tar", count) if shard else make_files(root / "images", count)
        run = make_run(root / "run")
        with Peak() as peak:
            if find:
                settings = PredictionSettings(str(run), "", [str(images)], "", 3, 32, None, None, "")
                with lock_work_folder(root / "work"):
                    open_work_folder(root / "work", settings, False, lambda found: None)
            else:
                predict(run, images, out=root / "out.parquet", workers=workers, console=Console(file=io.StringIO()))
        print(f"{count:<11,}{peak.start_at:>10.0f} MB{peak.own:>6.0f} MB{peak.child:>18.0f} MB", flush=True)


class Peak(threading.Thread):
    """Samples the anonymous memory, in megabytes, of this process and of the largest of its children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_at = self.own = anonymous(os.getpid())
        self.child, self.over = 0.0, False

    def run(self) -> None:
        while not self.over:
            self.own = max(self.own, anonymous(os.getpid()))
            for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                self.child = max(self.child, anonymous(int(child)))
            time.sleep(0.02)

    def __enter__(self) -> "Peak":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over = True
        self.join()


def anonymous(process: int) -> float:
    try:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) / 1024 if found else 0


def encoded_image() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 90)).save(file, "PNG")
    return file.getvalue()


def make_files(folder: Path, count: int) -> Path:
    folder.mkdir()
    content = encoded_image()
    for i in range(count):
        (folder / f"photograph-{i:08d}.png").write_bytes(content)
    return folder


def make_shard(path: Path, count: int) -> Path:
    content = encoded_image()
    with tarfile.open(path, "w") as shard:
        for i in range(count):
            header = tarfile.TarInfo(f"photograph-{i:08d}.png")
            header.size = len(content)
            shard.addfile(header, io.BytesIO(content))
            shard.members.clear()
    return path


def make_run(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.yaml").touch()
    preprocessing = dict(img_size=32, crop_pct=1.0, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    description = dict(task="classify", architecture="test_resnet", model_args={}, class_names=["a", "b", "c"])
    network = timm.create_model("test_resnet", num_classes=3)
    save_model(Run(folder), network.state_dict(), {**description, "preprocessing": preprocessing})
    return folder


if __name__ == "__main__":
    main()

"""Memory and time by number of images: indexing and training steps on a data set created on the fly.

    python -m benchmarks.million --images 10000,100000,1000000 --folder /tmp/million

The images are hard links to a few hundred small files in class folders, so a million of them take a million directory
entries and almost no disk space. Each number is measured in its own process. Columns: seconds to open the folder (list,
label, split); seconds to check the images' headers or pixels, as before training; memory that these add to the process,
in total and per image; unshared memory of the loader's workers while they draw training images. With --train, real
training is started and stopped after a minute of steps; its peak is that of the training process.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

CLASSES, FILES = 100, 300
DRAWN = 2048
"""Number of training images to draw from the loader."""


def make(folder: Path, count: int) -> None:
    """Create the given number of images in class folders: hard links to a few files."""
    import numpy as np
    from PIL import Image

    seeds = folder / "seeds"
    seeds.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for i in range(FILES):
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(seeds / f"{i}.png")
    for label in range(CLASSES):
        (folder / "photos" / f"class{label:03d}").mkdir(parents=True)
    for i in range(count):
        os.link(seeds / f"{i % FILES}.png", folder / "photos" / f"class{i % CLASSES:03d}" / f"image-{i:08d}.png")


def own_mib(pid: int | str = "self") -> float:
    """Memory of a process that it does not share, in MiB: its own, and copies by copy-on-write."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return (fields["Private_Dirty"] + fields["Private_Clean"]) / 1024


def peak_mib() -> float:
    """Peak memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(photos: Path, count: int, workers: int, look: bool) -> dict[str, float]:
    """Measure all columns for one number of images, in this process."""
    from torchvision.transforms.functional import pil_to_tensor

    from transxnet.data.formats.unreadable_images import drop_unreadable
    from transxnet.data.loading.data_modules import ClassificationData
    from transxnet.data.open_data import open_data
    from transxnet.data.split import write_split
    from transxnet.training.make_plan import make_plan  # noqa: F401  # loads everything that training needs

    before, peak_before, start = own_mib(), peak_mib(), time.perf_counter()
    source = open_data(str(photos), check_images=False)
    opened = time.perf_counter()
    after_open = own_mib()
    parts = {"train": source.train, "val": source.val}
    write_split(photos.parent / "split.csv", {name: map(p.name, range(len(p))) for name, p in parts.items()})
    written = time.perf_counter()
    if look:
        drop_unreadable(source.train, source.val)
    looked = time.perf_counter()
    data = ClassificationData(source.train, source.val, pil_to_tensor, pil_to_tensor, 32, workers, seed=0)
    loader = iter(data.train_dataloader())
    next(loader)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    first = [own_mib(pid) for pid in children]
    drawing = time.perf_counter()
    for _ in islice(loader, DRAWN // 32):
        pass
    drawn = time.perf_counter()
    grown = [own_mib(pid) - was for pid, was in zip(children, first, strict=True)]
    figures = {
        "images": count,
        "open_s": opened - start,
        "split_s": written - opened,
        "look_s": looked - written,
        "index_mib": after_open - before,
        "bytes_an_image": (after_open - before) * 2**20 / count,
        "peak_over_start_mib": peak_mib() - peak_before,
        "worker_growth_mib": max(grown, default=0.0),
        "drawn_a_second": DRAWN / (drawn - drawing),
    }
    return figures


def train_steps(photos: Path, out: Path) -> dict[str, float]:
    """Start real training on all images, and stop it by Ctrl-C after some seconds of steps."""
    command = [
        sys.executable, "-m", "transxnet", "train", str(photos), "--model", "transxnet_n", "--img-size", "32",
        "--batch-size", "32", "--epochs", "1", "--workers", "1", "--device", "cpu", "--out", str(out),
    ]  # fmt: skip
    start = time.perf_counter()
    with (out.parent / "said").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        peak = 0.0
        while not (out / "tensorboard").is_dir() and process.poll() is None:
            time.sleep(0.5)
        ready = time.perf_counter()
        while time.perf_counter() < ready + 60 and process.poll() is None:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak = max(peak, *(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")))
            time.sleep(0.5)
        process.send_signal(2)
        process.wait()
    words = (out.parent / "said").read_text()
    steps = float(words.partition("stopped at step ")[2].partition(",")[0] or "nan")
    return {"train_start_s": ready - start, "train_steps": steps, "train_peak_mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="10000,100000,1000000")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/million"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--train", action="store_true", help="also start a real training")
    parser.add_argument(
        "--skip-look", action="store_true", help="leave out the look at each image, which takes longest"
    )
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.folder / "photos", options.measure, options.workers, not options.skip_look)))
        return
    for count in map(int, options.images.split(",")):
        folder = options.folder / str(count)
        shutil.rmtree(folder, ignore_errors=True)
        make(folder, count)
        words = ["-m", "benchmarks.million", "--measure", str(count), "--folder", str(folder)]
        words += ["--workers", str(options.workers), *(["--skip-look"] if options.skip_look else [])]
        done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        if options.train:
            figures |= train_steps(folder / "photos", folder / "run")
        print(json.dumps({name: round(value, 2) for name, value in figures.items()}), flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

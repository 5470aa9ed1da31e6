"""Memory and time of ``transxnet check`` by number of images, without reading any file.

    python -m benchmarks.check_million --images 10000,100000,1000000

The images are random thumbnails and hashes, as ``transxnet check`` keeps them of decoded images: 1% are mirrored
copies, 1% are cropped by 5%, and 1% have equal pixels. Each number is measured in its own process. Columns: CPU seconds
to find exact duplicates, to find near duplicates, and to make and write the findings; the anonymous memory that these
add to the process, which does not include the temporary file of the thumbnails; the fractions of the mirrored and
cropped copies that are found. --skip-near skips the search for near duplicates, which takes longest. --alike makes a
fraction of the images noisy copies of one image.

--index measures only the index of this search, of random unit vectors instead of thumbnails: CPU seconds to create it
and to search it for 40 versions of 256 images, the memory that both add to the vectors, and the fraction of planted
neighbors that are found, at a distance of 0.1 and 0.3 from one of these versions. The components have equal variances
(white), or those of the frequencies of natural images (natural).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.predict_memory import Peak
from transxnet.checking.all_images import AllImages
from transxnet.checking.check_report import CheckResult, tally, write_results
from transxnet.checking.class_counts import class_counts, imbalance_findings
from transxnet.checking.duplicate_findings import exact_findings, near_findings
from transxnet.checking.duplicates import NearDuplicates, exact_duplicates, near_duplicates
from transxnet.checking.image_scan import SIDE, Scan
from transxnet.checking.neighbor_index import NeighborIndex
from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages
from transxnet.data.reading.packed_strings import PackedStrings

COPIES, CHUNK, CLASSES = 0.01, 4096, 100
SEARCHED, VERSIONS, NEIGHBORS, RADIUS = 256, 40, 4, 0.35


def make_scan(count: int, file: Path, draw: bool, alike: float) -> Scan:
    """Create the facts about random images; the last 3% are copies of the first.

    Args:
        count: number of images.
        file: file of the thumbnails.
        draw: whether to draw the thumbnails.
        alike: fraction of the images, in the middle, that are noisy copies of one image.
    """
    dice = np.random.default_rng(0)
    thumbnails = np.memmap(file, np.uint8, "w+", shape=(count, SIDE, SIDE))
    for start in range(0, count if draw else 0, CHUNK):
        size, total = min(CHUNK, count - start), 0
        for cells in (4, 8, 16, 32):  # detail at all scales, as of natural images
            noise = dice.integers(0, 256, (size, cells, cells)).astype(np.float32) / cells
            total = total + noise.repeat(SIDE // cells, 1).repeat(SIDE // cells, 2)
        low, high = (bound(total, (1, 2), keepdims=True) for bound in (np.amin, np.amax))
        thumbnails[start : start + size] = (total - low) / (high - low) * 255
    copies, digests = int(COPIES * count), np.arange(count, dtype=np.uint64)
    if draw:
        for i in range(count // 2, count // 2 + int(alike * count)):
            noisy = thumbnails[0] + dice.integers(-3, 4, (SIDE, SIDE))
            thumbnails[i] = noisy.clip(0, 255)
        thumbnails[-copies:] = thumbnails[:copies, :, ::-1]
        inside = torch.from_numpy(thumbnails[2 * copies : 3 * copies, 1 : SIDE - 2, 1 : SIDE - 2].astype(np.float32))
        thumbnails[-3 * copies : -2 * copies] = F.interpolate(inside[:, None], (SIDE, SIDE), mode="bilinear")[:, 0]
    digests[-2 * copies : -copies] = digests[copies : 2 * copies]
    return Scan(np.full((count, 2), 300), ["RGB"] * count, digests, thumbnails, {})


def make_images(count: int) -> AllImages:
    """Create a training and a validation set of images that are never read."""
    pixels = np.broadcast_to(np.zeros((1, 8, 8), np.uint8), (count, 8, 8))
    names = PackedStrings(f"class{i % CLASSES:03d}/image-{i:08d}.jpg" for i in range(count))
    labels = np.arange(count) % CLASSES
    whole = ClassificationSet(ArrayImages(pixels), names, [f"class{i:03d}" for i in range(CLASSES)], labels)
    train = np.arange(count) < 0.8 * count
    return AllImages({"train": whole.subset(np.flatnonzero(train)), "val": whole.subset(np.flatnonzero(~train))})


def measure(count: int, folder: Path, search: bool, alike: float) -> dict[str, float]:
    """Measure all columns for one number of images, in this process; ``search`` for near duplicates or not."""
    scan, images = make_scan(count, folder / "thumbnails", search, alike), make_images(count)
    with Peak() as peak:
        start = time.process_time()
        exact = exact_duplicates(scan)
        compared = time.process_time()
        near = near_duplicates(scan, 0.97, show) if search else NearDuplicates()
        searched = time.process_time()
        counts = class_counts(images)
        findings = [*exact_findings(images, exact), *near_findings(images, near, NearDuplicates())]
        findings += imbalance_findings(counts, images.sets["train"].class_names)
        sizes, modes = tally([tuple(size) for size in scan.sizes.tolist()]), tally(scan.modes)
        total = {name: len(part) for name, part in images.sets.items()}
        names = images.sets["train"].class_names
        write_results(CheckResult("synthetic", names, total, counts, sizes, modes, findings, [], images), folder)
        written = time.process_time()
    copies, pairs = int(COPIES * count), set(map(tuple, near.pairs.tolist()))
    return {
        "images": count,
        "exact_s": compared - start,
        "near_s": searched - compared,
        "findings_s": written - searched,
        "added_mib": peak.own - peak.start_at,
        "pairs": len(near.pairs),
        "mirrored_found": len(pairs & {(i, count - copies + i) for i in range(copies)}) / copies,
        "cropped_found": len(pairs & {(2 * copies + i, count - 3 * copies + i) for i in range(copies)}) / copies,
    }


def show(done: int) -> None:
    """Print the progress of a long search."""
    if done % (100 * 512) == 0:
        print(f"{done} images, {time.process_time():.0f} s", file=sys.stderr, flush=True)


def measure_index(count: int, spectrum: str) -> dict[str, float | str]:
    """Measure the index of the search for near duplicates, and the search of a few images in it, in this process."""
    dice, (y, x) = torch.Generator().manual_seed(0), torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    deviation = torch.ones(35) if spectrum == "white" else 1 / (y.square() + x.square()).flatten()[1:].sqrt()

    def draw(*shape: int) -> torch.Tensor:
        return F.normalize(torch.randn(*shape, 35, generator=dice) * deviation, dim=-1)

    vectors, images = draw(count), draw(SEARCHED)
    versions = F.normalize(images[:, None] + 0.2 * draw(SEARCHED, VERSIONS), dim=-1)
    target = torch.arange(count - SEARCHED, count)
    distance = torch.where(target % 2 == 0, 0.1, 0.3)[:, None]
    vectors[target] = F.normalize(versions[:, -1] + distance * draw(SEARCHED), dim=-1)
    queries = versions.flatten(0, 1)
    with Peak() as peak:
        start = time.process_time()
        index = NeighborIndex(vectors)
        made = time.process_time()
        near = index.search(queries, NEIGHBORS, 1 - RADIUS**2 / 2)
        searched = time.process_time()
    image = near.query // VERSIONS
    hits = torch.zeros(SEARCHED, dtype=torch.bool)
    hits[image[near.vector == target.numpy()[image]]] = True
    return {
        "images": count,
        "spectrum": spectrum,
        "index_s": made - start,
        "search_s": searched - made,
        "added_mib": peak.own - peak.start_at,
        "planted_0.1_found": hits[target % 2 == 0].double().mean().item(),
        "planted_0.3_found": hits[target % 2 == 1].double().mean().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="10000,100000,1000000")
    parser.add_argument("--skip-near", action="store_true")
    parser.add_argument("--alike", type=float, default=0.0)
    parser.add_argument("--index", choices=("white", "natural"))
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None and options.index:
        print(json.dumps(measure_index(options.measure, options.index)))
        return
    if options.measure is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(options.measure, Path(folder), not options.skip_near, options.alike)))
        return
    for count in options.images.split(","):
        command = [sys.executable, "-m", "benchmarks.check_million", *sys.argv[1:], "--measure", count]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}
        print(json.dumps(rounded), flush=True)


if __name__ == "__main__":
    main()

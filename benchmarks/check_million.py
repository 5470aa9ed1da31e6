"""Memory and time of ``transxnet check`` by number of images, without reading any file.

    python -m benchmarks.check_million --images 10000,100000,1000000

The images are random thumbnails and hashes, as ``transxnet check`` keeps them of decoded images; 1% are mirrored copies
and 1% have equal pixels. Each number is measured in its own process. Columns: CPU seconds to find exact duplicates, to
find near duplicates, and to make and write the findings; the anonymous memory that these add to the process, which does
not include the temporary file of the thumbnails; the fraction of the mirrored copies that are found. --skip-near leaves
out the search for near duplicates, which takes longest. --index measures only the index of this search, of random
hashes instead of thumbnails: CPU seconds to create it and to search it for 32 images, with a hash at a distance of 0.1
from one of the versions of each, the memory of both, and the fraction of these hashes that are found. Random hashes are
the worst case of a k-d tree.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.predict_memory import Peak
from transxnet.checking.all_images import AllImages
from transxnet.checking.check_report import CheckResult, tally, write_results
from transxnet.checking.class_counts import class_counts, imbalance_findings
from transxnet.checking.duplicate_findings import exact_findings, near_findings
from transxnet.checking.duplicates import (
    _CROPS,
    _FREQUENCIES,
    NearDuplicates,
    _candidates,
    exact_duplicates,
    near_duplicates,
)
from transxnet.checking.image_scan import SIDE, Scan
from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages
from transxnet.data.reading.packed_strings import PackedStrings

COPIES, CHUNK, CLASSES, SEARCHED = 0.01, 4096, 100, 32
NO_PAIRS = NearDuplicates(np.zeros((0, 2), int), np.zeros(0))


def make_scan(count: int, file: Path, draw: bool) -> Scan:
    """Create the facts about random images; the last 2% are copies of the first.

    Args:
        count: number of images.
        file: file of the thumbnails.
        draw: whether to draw the thumbnails.
    """
    dice = np.random.default_rng(0)
    thumbnails = np.memmap(file, np.uint8, "w+", shape=(count, SIDE, SIDE))
    for start in range(0, count if draw else 0, CHUNK):
        size, total = min(CHUNK, count - start), 0
        for cells in (4, 8, 16, 32):  # detail at all scales, as of natural images
            noise = dice.integers(0, 256, (size, cells, cells)) / cells
            total = total + noise.repeat(SIDE // cells, 1).repeat(SIDE // cells, 2)
        low, high = (bound(total, (1, 2), keepdims=True) for bound in (np.amin, np.amax))
        thumbnails[start : start + size] = (total - low) / (high - low) * 255
    copies, digests = int(COPIES * count), np.arange(count, dtype=np.uint64)
    if draw:
        thumbnails[-copies:] = thumbnails[:copies, :, ::-1]
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


def measure(count: int, folder: Path, search: bool) -> dict[str, float]:
    """Measure all columns for one number of images, in this process; ``search`` for near duplicates or not."""
    scan, images = make_scan(count, folder / "thumbnails", search), make_images(count)
    with Peak() as peak:
        start = time.process_time()
        exact = exact_duplicates(scan)
        compared = time.process_time()
        near = near_duplicates(scan, 0.97, lambda done: None) if search else NO_PAIRS
        searched = time.process_time()
        counts = class_counts(images)
        findings = [*exact_findings(images, exact), *near_findings(images, near)]
        findings += imbalance_findings(counts, images.sets["train"].class_names)
        sizes, modes = tally([tuple(size) for size in scan.sizes.tolist()]), tally(scan.modes)
        total = {name: len(part) for name, part in images.sets.items()}
        names = images.sets["train"].class_names
        write_results(CheckResult("synthetic", names, total, counts, sizes, modes, findings, [], images), folder)
        written = time.process_time()
    copies = int(COPIES * count)
    planted = {(i, count - copies + i) for i in range(copies)}
    return {
        "images": count,
        "exact_s": compared - start,
        "near_s": searched - compared,
        "findings_s": written - searched,
        "added_mib": peak.own - peak.start_at,
        "pairs": len(near.pairs),
        "recall": len(planted.intersection(map(tuple, near.pairs.tolist()))) / copies,
    }


def measure_index(count: int) -> dict[str, float]:
    """Measure the index of the search for near duplicates, and the search of a few images in it, in this process."""
    dice, dimensions = np.random.default_rng(0), _FREQUENCIES**2 - 1
    hashes = _unit(dice.standard_normal((count, dimensions), np.float32))
    versions = _unit(dice.standard_normal((SEARCHED, 2, len(_CROPS), dimensions), np.float32))
    versions[:, 0, 0] = hashes[:SEARCHED]
    hashes[-SEARCHED:] = _unit(versions[:, 1, -1] + 0.1 * _unit(dice.standard_normal((SEARCHED, dimensions))))
    with Peak() as peak:
        start = time.process_time()
        tree = cKDTree(hashes)
        made = time.process_time()
        pairs = {pair for own, other, *_ in _candidates(tree, versions, 0) for pair in zip(own, other, strict=True)}
        searched = time.process_time()
    planted = {(i, count - SEARCHED + i) for i in range(SEARCHED)}
    return {
        "images": count,
        "index_s": made - start,
        "search_s": searched - made,
        "added_mib": peak.own - peak.start_at,
        "recall": len(planted & pairs) / SEARCHED,
    }


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="10000,100000,1000000")
    parser.add_argument("--skip-near", action="store_true")
    parser.add_argument("--index", action="store_true")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None and options.index:
        print(json.dumps(measure_index(options.measure)))
        return
    if options.measure is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(options.measure, Path(folder), not options.skip_near)))
        return
    for count in options.images.split(","):
        command = [sys.executable, "-m", "benchmarks.check_million", "--measure", count]
        command += [f"--{name}" for name in ("skip-near", "index") if getattr(options, name.replace("-", "_"))]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(json.dumps({k: round(v, 3) for k, v in json.loads(done.stdout.splitlines()[-1]).items()}), flush=True)


if __name__ == "__main__":
    main()

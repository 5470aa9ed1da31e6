"""The gain of tiles on enlarged scenes: a segmenter trained and evaluated on whole images, and on tiles.

    python -m benchmarks.tiles --folder /tmp/tiles

Each image is a mosaic of 4 x 4 scenes of the sample, 384 pixels wide and high, with two classes: background and digit.
Both trainings resize to inputs of 96 pixels and take as many steps, so they cost the same: whole images are reduced to
a quarter of their side, tiles keep their resolution. The second row evaluates the segmenter of whole images on tiles,
whose objects are four times as large as those that it was trained on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from transxnet import evaluate, train
from transxnet.data.samples.scenes import scenes

GRID, CELL, BATCH = 4, 96, 8


def write_mosaics(root: Path, part: str, count: int) -> None:
    """Write mosaics of scenes and their label maps, of the first scenes of a set."""
    source = scenes()
    files = sorted((source / "images" / part).iterdir())
    for folder in ("images", "annotations"):
        (root / folder / part).mkdir(parents=True)
    for number in range(count):
        canvas, labels = Image.new("RGB", (GRID * CELL, GRID * CELL)), Image.new("L", (GRID * CELL, GRID * CELL))
        for cell in range(GRID * GRID):
            file = files[(number * GRID * GRID + cell) % len(files)]
            place = (cell % GRID * CELL, cell // GRID * CELL)
            area = (0, 0, 2 * CELL, 2 * CELL)  # scenes are at least as large
            canvas.paste(Image.open(file).crop(area).reduce(2), place)
            classes = np.asarray(Image.open(source / "annotations" / part / f"{file.stem}.png").crop(area))
            labels.paste(Image.fromarray((classes[::2, ::2] > 0).astype(np.uint8)), place)
        canvas.save(root / "images" / part / f"{number:04d}.jpg", quality=95)
        labels.save(root / "annotations" / part / f"{number:04d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder for the mosaics and runs")
    parser.add_argument("--train", type=int, default=32, help="mosaics for training")
    parser.add_argument("--val", type=int, default=8, help="mosaics for validation")
    parser.add_argument("--epochs", type=int, default=4, help="epochs on tiles")
    options = parser.parse_args()
    data, console = options.folder / "mosaics", Console()
    if not data.is_dir():
        for part, count in (("training", options.train), ("validation", options.val)):
            write_mosaics(data, part, count)
        (data / "classes.txt").write_text("background\ndigit\n")
    common: dict[str, Any] = dict(
        task="segment", model="resnet18", crop=CELL, min_ratio=0.85, max_ratio=1.15, cat_max_ratio=1.0, lr=1.5e-3,
        photometric=False, drop_path_rate=0.0, hflip=0.0, clip_grad=5.0, batch_size=BATCH, select="last", workers=0,
        precision="bf16-mixed",
        device="cpu", console=console,
    )  # fmt: skip
    tiled = train(
        data, out=options.folder / "tiles", tile=CELL, epochs=options.epochs, val_every=options.epochs, **common
    )
    steps = int(tiled.read_metrics()[-1]["step"])
    epochs = round(steps / (options.train // BATCH))
    whole = train(data, out=options.folder / "whole", epochs=epochs, val_every=epochs, **common)
    rows = {
        "whole images": evaluate(whole.path, workers=0, console=console),
        "whole images, evaluated on tiles": evaluate(whole.path, tile=CELL, workers=0, console=console),
        "tiles": evaluate(tiled.path, workers=0, console=console),
    }
    for name, evaluation in rows.items():
        print(json.dumps({"trained on": name, "steps": steps, **evaluation.metrics()}), flush=True)


if __name__ == "__main__":
    main()

"""The data and the options of a small study."""

from pathlib import Path

import numpy as np
from PIL import Image

OPTIONS = dict(
    models=["test_resnet", "test_vit"], folds=2, seeds=2, resamples=100, img_size=32, batch_size=8, epochs=1,
    workers=0, device="cpu", precision="32-true", lr=3e-3, val_fraction=0.3,
)  # fmt: skip
FILES = ("study.csv", "study.json", "study.tex", "study.html")


def read_files(folder: Path) -> dict[str, bytes]:
    """The files with the results."""
    return {name: (folder / name).read_bytes() for name in FILES}


def write_cells(root: Path, seed: int = 0, count: int = 24) -> Path:
    """Write a label table of two classes in groups of two images."""
    random = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    rows = ["path,label,group"]
    for i in range(count):
        defect = i // 2 % 3 == 0
        pixels = random.normal(110 + 40 * defect, 60, (24, 24, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i:02d}.png")
        rows.append(f"{i:02d}.png,{'defect' if defect else 'intact'},cell{i // 2}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root

"""Few labels: a pretrained network against the same network from scratch, on the solar cells of ELPV.

    python -m benchmarks.few_labels runs/few-labels --fractions 0.1 --seeds 3

Every row has the same images, labels and test images for a seed. A seed determines the labeled images, the weights of
what is new, and the order of training. The test images are the 656 of the sample; a tenth of the others are validation
images, by which options may be chosen, and which train nothing. Both pretrainings have the training images without
labels; the teacher of the distillation was trained with the labels of all of them, as a user's older network would be.
Finished runs are skipped and an interrupted one is resumed, so the command continues where it stopped. The table is
printed after each run, and written to table.md and results.json in the folder.
"""

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from scipy.stats import t
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import transxnet
from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.data.open_data import DataSource, open_data
from transxnet.data.samples.builtin_samples import elpv
from transxnet.data.split import draw_fraction, split_images, write_split
from transxnet.runs.run_folder import Run
from transxnet.utils.files import write_atomic

MODEL = "transxnet_n"

PRETRAIN: dict[str, Any] = dict(batch_size=64, min_scale=0.4)
"""Options of the pretraining."""

TRAIN: dict[str, Any] = dict(
    batch_size=16, lr=1e-3, select="last", crop_pct=1.0, min_scale=0.9, color_jitter=0.0, drop_path_rate=0.0,
    weighted_loss=False,
)  # fmt: skip
"""Options of the trainings with labels: the light augmentation of the recipe elpv."""

TEACHER = "from scratch, 3 times the updates"
"""The arm whose training with all labels, of seed 0, is the teacher of the distillation."""


@dataclass(frozen=True)
class Arm:
    """A training with labels.

    Attributes:
        start: the pretraining that it starts from, or None.
        factor: factor of the number of updates.
        options: options that differ from those of the others.
    """

    start: str | None = None
    factor: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)


ARMS = {
    "from scratch": Arm(),
    "pretrained": Arm("pretrained"),
    "pretrained, a fifth of the learning rate": Arm("pretrained", options=dict(lr=2e-4)),
    "pretrained, frozen backbone": Arm("pretrained", options=dict(freeze="backbone")),
    "distilled": Arm("distilled"),
    "distilled, a fifth of the learning rate": Arm("distilled", options=dict(lr=2e-4)),
    "distilled, frozen backbone": Arm("distilled", options=dict(freeze="backbone")),
    TEACHER: Arm(factor=3),
}
"""The trainings, in the order in which they run."""

PROBES = ("pretrained", "distilled", "random weights", "pixels")
"""The features that a logistic regression is trained on."""


def make_split(path: Path) -> DataSource[ClassificationSet]:
    """Open the sample with the split in the file, which is written first if it does not exist."""
    if not path.exists():
        source = open_data("elpv", check_images=False)
        train, val = split_images(source.train, 0.1, 0, strata=elpv().strata[source.train.indices])
        write_split(path, {"train": train.own_names, "val": val.own_names, "test": source.val.own_names})
    return open_data("elpv", stored_split=path, check_images=False)


def finish(folder: Path, start: Any) -> Run:
    """Return the run in a folder: finished, resumed, or started by ``start``."""
    if (folder / "results.json").is_file():
        return Run.open(folder)
    return transxnet.train(resume=folder) if (folder / "config.yaml").is_file() else start(out=folder)


def network_features(images: list[Any], size: int) -> np.ndarray:
    """Return features (N, F) of the network with random weights, and BatchNorm statistics of the first images."""
    torch.manual_seed(0)
    model = timm.create_model(MODEL, num_classes=0, img_size=size)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
    transform = Preprocessing.of_model(model, size, 1.0).transform()
    batches = torch.stack([transform(image) for image in images]).split(64)
    with torch.inference_mode():
        for batch in batches[:8]:
            model.train()(batch)
        return torch.cat([model.eval()(batch) for batch in batches]).numpy()


def read_features(folder: Path, which: str, source: DataSource[ClassificationSet], size: int) -> dict[str, np.ndarray]:
    """Compute the features of the training and test images, or read them again."""
    path = folder / f"features-{which.replace(' ', '-')}.npz"
    if not path.exists():
        images = [part.image(i) for part in (source.train, source.test) for i in range(len(part))]  # type: ignore[arg-type, union-attr]
        if which in ("pretrained", "distilled"):
            features = transxnet.load(folder / which).embed(images)
        elif which == "pixels":
            features = np.stack(
                [np.asarray(image.convert("L").resize((32, 32)), np.float32).ravel() for image in images]
            )
        else:
            features = network_features(images, size)
        first = len(source.train)
        np.savez(path, train=features[:first], test=features[first:])
    with np.load(path) as stored:
        return dict(stored)


def probe(features: dict[str, np.ndarray], source: DataSource[ClassificationSet], fraction: float, seed: int) -> float:
    """Return the balanced test accuracy of a logistic regression, whose penalty the labeled images choose."""
    train, test = source.train, source.test
    assert test is not None
    drawn = train if fraction == 1 else draw_fraction(train, fraction, seed, elpv().strata[train.indices])
    rows = np.searchsorted(train.indices, drawn.indices)
    regression = LogisticRegressionCV(
        Cs=np.logspace(-5, 1, 7), l1_ratios=(0,), cv=5, max_iter=1000, scoring="balanced_accuracy",
        use_legacy_attributes=False,
    )  # fmt: skip
    model = make_pipeline(StandardScaler(), regression)
    model.fit(features["train"][rows], drawn.own_labels)
    return float(balanced_accuracy_score(test.own_labels, model.predict(features["test"])))


def interval(values: list[float]) -> str:
    """Format mean and 95% interval (Student's t) of the values of the seeds, in percent."""
    mean = 100 * np.mean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    half = 100 * t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{mean:.1f} ± {half:.1f}"


def write_table(folder: Path, results: dict[str, dict[str, dict[str, float]]]) -> None:
    """Write and print the table: rows by arm, columns by fraction of the labels, paired differences in parentheses."""
    fractions = sorted({fraction for row in results.values() for fraction in row}, key=float)
    lines = ["| | " + " | ".join(f"{float(fraction):.0%}" for fraction in fractions) + " |"]
    lines.append("|---|" + "---|" * len(fractions))
    for name, row in results.items():
        cells = []
        for fraction in fractions:
            values, scratch = row.get(fraction, {}), results.get("from scratch", {}).get(fraction, {})
            gains = [values[seed] - scratch[seed] for seed in values.keys() & scratch.keys()]
            cell = interval(list(values.values())) if values else ""
            cells.append(cell if name == "from scratch" or not gains else f"{cell} ({interval(gains)})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    write_atomic(folder / "results.json", lambda path: path.write_text(json.dumps(results, indent=2)))
    write_atomic(folder / "table.md", lambda path: path.write_text("\n".join(lines) + "\n"))
    print("\n".join(lines), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.1, 0.05, 0.25, 1.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--img-size", type=int, default=64)
    parser.add_argument("--pretrain-epochs", type=int, default=100)
    parser.add_argument("--updates", type=int, default=1000, help="updates of each training with labels")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    split = folder / "split.csv"
    source = make_split(split)
    common = dict(
        model=MODEL, img_size=options.img_size, split_file=split, vflip=0.5, precision=options.precision,
        workers=options.workers,
    )  # fmt: skip

    def pretrain(name: str, **own: Any) -> Run:
        return finish(
            folder / name,
            lambda out: transxnet.pretrain(
                "elpv", out=out, epochs=options.pretrain_epochs, **common, **PRETRAIN, **own
            ),
        )

    def train(name: str, fraction: float, seed: int) -> Run:
        arm = ARMS[name]
        steps = max(1, round(fraction * len(source.train)) // TRAIN["batch_size"])
        epochs = math.ceil(arm.factor * options.updates / steps)
        own = dict(seed=seed, train_fraction=fraction, epochs=epochs, val_every=math.ceil(epochs / 10))
        if arm.start:
            own["checkpoint"] = folder / arm.start
        return finish(
            folder / f"{name.replace(',', '').replace(' ', '-')}-{fraction:g}-{seed}",
            lambda out: transxnet.train("elpv", out=out, **{**common, **TRAIN, **own, **arm.options}),
        )

    pretrain("pretrained")
    pretrain("distilled", method="distill", teacher=train(TEACHER, 1.0, 0).path)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for which in PROBES:
        features = read_features(folder, which, source, options.img_size)
        results[f"logistic regression, {which}"] = {
            str(fraction): {str(seed): probe(features, source, fraction, seed) for seed in range(options.seeds)}
            for fraction in options.fractions
        }
    write_table(folder, results)
    for fraction, name, seed in product(options.fractions, ARMS, range(options.seeds)):
        row = results.setdefault(name, {}).setdefault(str(fraction), {})
        row[str(seed)] = train(name, fraction, seed).results["test"]["balanced_accuracy"]
        write_table(folder, results)


if __name__ == "__main__":
    main()

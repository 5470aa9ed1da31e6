"""Few labels: a network pretrained without labels against the same network from scratch, on the solar cells of ELPV.

    python -m benchmarks.few_labels runs/few-labels --fractions 0.1 --seeds 3

Every row has the same images, labels and test images for a seed. A seed determines the labeled images, the weights of
what is new, and the order of training. The test images are the 656 of the sample; a tenth of the others are validation
images, by which options may be chosen, and which train nothing. The pretraining has the training images without labels.
Finished runs are skipped and an interrupted one is resumed, so the command continues where it stopped. The table is
printed after each run, and written to table.md and results.json in the folder.
"""

import argparse
import json
import math
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

ARMS: dict[str, tuple[int, bool]] = {
    "fine-tuned after pretraining": (1, True),
    "from scratch": (1, False),
    "from scratch, 3 times the updates": (3, False),
}
"""For each arm, the factor of the number of updates, and whether it starts from the pretraining."""

PROBES = ("pretrained", "random weights", "pixels")
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
        if which == "pretrained":
            features = transxnet.load(folder / "pretrain").embed(images)
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
    """Write and print the table: rows by arm, columns by fraction of the labels."""
    fractions = sorted({fraction for row in results.values() for fraction in row}, key=float)
    lines = ["| | " + " | ".join(f"{float(fraction):.0%}" for fraction in fractions) + " |"]
    lines.append("|---|" + "---|" * len(fractions))
    for name, row in results.items():
        cells = [interval(list(row[fraction].values())) if fraction in row else "" for fraction in fractions]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    ours, scratch = (results.get(name, {}) for name in ("fine-tuned after pretraining", "from scratch"))
    cells = []
    for fraction in fractions:
        both = ours.get(fraction, {}).keys() & scratch.get(fraction, {}).keys()
        cells.append(interval([ours[fraction][seed] - scratch[fraction][seed] for seed in both]) if both else "")
    lines.append("| difference of the first two trainings | " + " | ".join(cells) + " |")
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
    finish(
        folder / "pretrain",
        lambda out: transxnet.pretrain("elpv", out=out, epochs=options.pretrain_epochs, **common, **PRETRAIN),
    )
    results: dict[str, dict[str, dict[str, float]]] = {}
    for which in PROBES:
        features, row = read_features(folder, which, source, options.img_size), {}
        for fraction in options.fractions:
            row[str(fraction)] = {str(s): probe(features, source, fraction, s) for s in range(options.seeds)}
        results[f"logistic regression, {which}"] = row
    write_table(folder, results)
    for fraction in options.fractions:
        steps = max(1, round(fraction * len(source.train)) // TRAIN["batch_size"])
        for name, (factor, pretrained) in ARMS.items():
            for seed in range(options.seeds):
                own = dict(checkpoint=folder / "pretrain") if pretrained else {}
                own |= dict(seed=seed, train_fraction=fraction, epochs=math.ceil(factor * options.updates / steps))
                run = finish(
                    folder / f"{name.replace(',', '').replace(' ', '-')}-{fraction:g}-{seed}",
                    lambda out, own=own: transxnet.train("elpv", out=out, **common, **TRAIN, **own),
                )
                row = results.setdefault(name, {}).setdefault(str(fraction), {})
                row[str(seed)] = run.results["test"]["balanced_accuracy"]
                write_table(folder, results)


if __name__ == "__main__":
    main()

"""The folder of a run: what lies where, and how a model comes back out of it."""

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from transxnet.data.labels import imagenet_synsets
from transxnet.data.transforms import Preprocessing
from transxnet.environment import environment
from transxnet.errors import UserError
from transxnet.files import write_whole
from transxnet.models.checkpoints import convert_official_state_dict, read_checkpoint
from transxnet.models.create import check_name, create_model, split_tag
from transxnet.tasks.config import TrainConfig, check_options
from transxnet.version import __version__

FORMAT = 1
"""Layout of a run folder; raised when an older version could misread it."""

_OWN = (
    "config.yaml", "environment.json", "split.csv", "metrics.csv", "last.ckpt", "best.ckpt", "model.safetensors",
    "model.json", "results.json", "predictions.csv", "report.html", "tensorboard",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run folder."""

    path: Path

    config_file = property(lambda self: self.path / "config.yaml")
    environment_file = property(lambda self: self.path / "environment.json")
    split_file = property(lambda self: self.path / "split.csv")
    metrics_file = property(lambda self: self.path / "metrics.csv")
    last_checkpoint = property(lambda self: self.path / "last.ckpt")
    best_checkpoint = property(lambda self: self.path / "best.ckpt")
    weights_file = property(lambda self: self.path / "model.safetensors")
    model_file = property(lambda self: self.path / "model.json")
    stored_split = property(lambda self: self.split_file if self.split_file.is_file() else None)
    results_file = property(lambda self: self.path / "results.json")
    predictions_file = property(lambda self: self.path / "predictions.csv")
    report_file = property(lambda self: self.path / "report.html")

    @staticmethod
    def check_free(path: Path, overwrite: bool) -> None:
        """Raise UserError if a new run in this folder would touch what is there."""
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return
        if not overwrite:
            raise UserError(
                f"{path} exists already. Go on with it by --resume {path}, write over it by --overwrite, or choose "
                "another folder with --out."
            )
        if not all((path / name).is_file() for name in ("config.yaml", "environment.json")):
            raise UserError(f"{path} is not a run folder, so --overwrite leaves it alone. Choose another --out.")
        foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in _OWN)
        if foreign:
            raise UserError(
                f"{path} also holds {', '.join(foreign[:5])}, which no run writes, so --overwrite leaves it alone. "
                "Move that away, or choose another --out."
            )

    @classmethod
    def create(cls, path: Path, overwrite: bool) -> "Run":
        """Make the folder of a new run.

        Raises:
            UserError: it holds something, and ``overwrite`` is not set; or it can't be written.
        """
        cls.check_free(path, overwrite)
        try:
            if path.exists():
                shutil.rmtree(path)
            path.mkdir(parents=True)
        except OSError as error:
            why = f"cannot make the run folder {path}: {error.strerror}"
            raise UserError(f"{why}. Choose another with --out.") from error
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Find an existing run.

        Raises:
            UserError: there is no run folder.
        """
        path = Path(path)
        if not (path / "config.yaml").is_file():
            raise UserError(f"{path} is not a run folder: it has no config.yaml. Runs are made by transxnet train.")
        return cls(path)

    def read_config(self) -> TrainConfig:
        """The options that the run was started with, resolved."""
        try:
            values = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
            check_options(values)
            return TrainConfig(**values)
        except (OSError, ValueError, TypeError, yaml.YAMLError, UserError) as error:
            raise UserError(f"{self.config_file} is damaged, or not a run's: {error}") from error

    def write_config(self, config: TrainConfig) -> None:
        """Store the resolved options."""
        write_whole(self.config_file, yaml.safe_dump(config.to_dict(), sort_keys=False))

    def read_environment(self) -> dict[str, Any]:
        """Environment, command and choices of the run's start."""
        return json.loads(self.environment_file.read_text(encoding="utf-8"))

    def write_environment(self, command: str, choices: Sequence[str]) -> None:
        """Store the environment beside the command and what was chosen for the user."""
        content = {"command": command, "choices": list(choices), "environment": environment()}
        write_whole(self.environment_file, json.dumps(content, indent=2))

    def read_metrics(self) -> list[dict[str, float]]:
        """The epochs' figures."""
        with self.metrics_file.open(newline="") as file:
            return [{k: float(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


@dataclass(frozen=True)
class TrainedModel:
    """A model that can be put to use.

    Attributes:
        model: in evaluation mode, on the CPU.
        name: for the user.
        class_names: C names by class index.
        preprocessing: from a picture to its input.
        run: the run it came from, or None.
    """

    model: nn.Module
    name: str
    class_names: list[str]
    preprocessing: Preprocessing
    run: Run | None = None


def save_model(
    run: Run,
    state_dict: Mapping[str, Tensor],
    architecture: str,
    model_args: Mapping[str, Any],
    class_names: Sequence[str],
    preprocessing: Preprocessing,
) -> None:
    """Write the weights and what is needed to build the network around them."""
    description = {
        "format": FORMAT,
        "task": "classify",
        "architecture": architecture,
        "model_args": dict(model_args),
        "class_names": list(class_names),
        "preprocessing": preprocessing.to_dict(),
        "transxnet": __version__,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    write_whole(run.weights_file, lambda path: save_file(tensors, path))
    write_whole(run.model_file, json.dumps(description, indent=2))


def load_trained(target: str | Path, file: str | Path | None = None) -> TrainedModel:
    """Load the model of a run folder, or a model with published ImageNet weights by its name.

    Args:
        target: the folder or the name.
        file: published weights on disk, for a model by name.

    Raises:
        UserError: neither, or the run holds no finished model, or its files are damaged.
    """
    if Path(target).is_dir():
        if file is not None:
            raise UserError(f"{target} is a run folder with weights of its own: --file is for a model by name.")
        return _load_run(Run.open(target))
    if Path(target).exists():
        raise UserError(f"{target} is a file. Accepted: a run folder, or a model's name with --file {target}.")
    name = str(target)
    if "/" in name or not timm.is_model(split_tag(name)[0]):
        try:
            check_name(name)
        except UserError as error:
            raise UserError(f"there is no run folder {name}, and {error}") from error
    overlay: dict[str, Any] | None = None if file is None else {"file": str(file)}
    if file is not None and split_tag(name)[0].startswith("transxnet_"):
        overlay = {"state_dict": _imagenet_weights(Path(file))}
    model = create_model(name, pretrained=True, pretrained_cfg_overlay=overlay).eval()
    if model.num_classes != 1000:
        raise UserError(
            f"{target} has {model.num_classes} classes and no names for them. Accepted: a run folder, or a "
            "model of ImageNet's 1,000 classes."
        )
    return TrainedModel(model, name, list(imagenet_synsets()), Preprocessing.of_model(model))


def _imagenet_weights(file: Path) -> dict[str, Tensor]:
    tensors = convert_official_state_dict(read_checkpoint(file))
    head = tensors.get("head.fc.weight")
    if head is None or len(head) != 1000:
        what = "no classifier" if head is None else f"{len(head)} classes"
        raise UserError(f"{file} has {what}; a model by name is for ImageNet's 1,000. Train with --checkpoint {file}.")
    return tensors


def _load_run(run: Run) -> TrainedModel:
    if not run.model_file.is_file():
        raise UserError(f"{run.path} holds no finished model yet. Go on with its training: --resume {run.path}")
    try:
        description = json.loads(run.model_file.read_text(encoding="utf-8"))
        if description["format"] > FORMAT:
            raise UserError(
                f"{run.path} was written by a newer transxnet ({description['transxnet']}). Update this one."
            )
        class_names = description["class_names"]
        preprocessing = Preprocessing.from_dict(description["preprocessing"])
        model = create_model(description["architecture"], num_classes=len(class_names), **description["model_args"])
        model.load_state_dict(read_checkpoint(run.weights_file))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(f"the model in {run.path} is damaged or not ours: {type(error).__name__}: {error}") from error
    return TrainedModel(model.eval(), str(run.path), class_names, preprocessing, run)

"""The arms of a study: what is compared, each with all its training options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transxnet.runs.config import TrainConfig
from transxnet.runs.recipes import make_config
from transxnet.runs.run_folder import Run
from transxnet.runs.training_data import trained_on
from transxnet.training.make_plan import check_model, check_names
from transxnet.utils.errors import UserError
from transxnet.utils.files import safe_file_name
from transxnet.utils.text_files import read_yaml

OF_THE_STUDY = ("data", "task", "out", "seed", "split_file", "limit", "positive")
"""Options of a training that the study sets in each run."""

SHARED = (
    *OF_THE_STUDY, "val_fraction", "group_from", "exclude", "targets", "num_classes", "path_column", "label_column",
    "split_column", "group_column", "weight_column", "image_folder", "train_split", "val_split", "zero_is_ignored",
)  # fmt: skip
"""Options that all arms have in common, since they decide on the images and their labels."""


@dataclass(frozen=True)
class Arm:
    """One of the trainings that a study compares.

    Attributes:
        name: name in tables and of the run folders.
        options: all options of its trainings, without ``OF_THE_STUDY``.
    """

    name: str
    options: dict[str, Any]

    @property
    def file_name(self) -> str:
        """The name in the names of files."""
        return safe_file_name(self.name)

    @property
    def model(self) -> str:
        """Name of the model, with its options."""
        return str(self.options["model"])


def read_arms(models: Sequence[str] | None, file: str | Path | None) -> dict[str, dict[str, Any]]:
    """Return the options of each arm by its name: one arm for each model, or those of a YAML file.

    Raises:
        UserError: none or both are given, the file cannot be read, an arm sets an option that all arms share, or two
            arms have the same name.
    """
    if (models is None) == (file is None):
        raise UserError("Name the arms once: with --models NAME..., or with --arms FILE.yaml.")
    arms = {model: {"model": model} for model in models} if models is not None else _read_file(Path(str(file)))
    if len(arms) < len(models or ()) or len({safe_file_name(name) for name in arms}) < len(arms):
        raise UserError(f"two arms have the same name, got {', '.join(models or arms)}. Name each arm once.")
    if not arms:
        raise UserError("a study needs at least one arm, got none. Name models with --models.")
    return arms


def _read_file(file: Path) -> dict[str, dict[str, Any]]:
    try:
        content = read_yaml(file)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file}: {error}. Accepted: a YAML file of training options by arm.") from error
    if not isinstance(content, Mapping) or not all(isinstance(each, Mapping) for each in content.values()):
        raise UserError(f"{file} must contain training options by the name of the arm, such as 'wide: {{model: ...}}'.")
    for name, options in content.items():
        if shared := [option for option in options if option in SHARED]:
            raise UserError(f"arm {name!r} sets {shared[0]}, which is the same for all arms. Pass it to the study.")
    return {str(name): dict(options) for name, options in content.items()}


def make_arms(
    given: Mapping[str, Mapping[str, Any]], data: str | Path, task: str, recipe: Any, options: Mapping[str, Any]
) -> list[Arm]:
    """Return the arms with all their options.

    Args:
        given: options of each arm by name; they override the others. An arm may name its own ``recipe``.
        data: training data.
        task: task of the study.
        recipe: recipe of all arms, or None.
        options: options of all arms.

    Raises:
        UserError: an option or a model does not exist, or an arm starts from a run on the same data.
    """
    arms = []
    for name, chosen in given.items():
        try:
            merged = {**options, **chosen}
            config = make_config(data, merged.pop("recipe", recipe), task, **merged)
            check_names(config)
            check_model(config.model)
            _check_start(config)
        except UserError as error:
            raise UserError(f"arm {name!r}: {error}") from error
        own = {option: value for option, value in config.to_dict().items() if option not in OF_THE_STUDY}
        arms.append(Arm(name, own))
    return arms


def _check_start(config: TrainConfig) -> None:
    """Raise UserError if the initial weights come from a training on the same images: it has seen the outer folds."""
    if config.checkpoint is None or not (Path(config.checkpoint) / "config.yaml").is_file():
        return
    if trained_on(Run(Path(config.checkpoint)).read_config(), config.data):
        raise UserError(
            f"checkpoint {config.checkpoint} was trained on images of {config.data}, which are test images of a fold. "
            "Start from other weights."
        )

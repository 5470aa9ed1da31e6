"""The plan for pretraining a network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from transxnet.data.loading.data_modules import ClassificationData
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.data.open_data import DataSource
from transxnet.models.create import default_img_size
from transxnet.models.model_spec import parse_model_name
from transxnet.runs.pretrain_config import PretrainConfig
from transxnet.runs.pretraining_data import open_pretraining_data
from transxnet.training.build_network import build_network
from transxnet.training.defaults import DefaultsResolver
from transxnet.training.plan import Plan
from transxnet.training.pretrainer import Pretrainer
from transxnet.training.teacher import Teacher, load_feature_teacher
from transxnet.utils.optional_packages import require_package


@dataclass(frozen=True)
class PretrainPlan(Plan):
    """Plan for pretraining a network.

    Attributes:
        transforms: image preprocessing.
        teacher: network whose features are imitated, or None.
    """

    config: PretrainConfig
    source: DataSource
    transforms: Preprocessing
    teacher: Teacher | None

    @property
    def architecture(self) -> str:
        """Model name without tag and options."""
        return parse_model_name(self.config.model).architecture

    def data_module(self) -> ClassificationData:
        """Create the data loaders: views of the training images, and the preprocessed validation images."""
        from transxnet.training.pretrain_methods import METHODS

        config = self.config
        assert isinstance(config.batch_size, int) and config.workers is not None
        return ClassificationData(
            self.source.train,
            self.source.val,
            METHODS[config.method].transform(config, self.transforms),  # type: ignore[arg-type]  # several views
            self.transforms.transform(),
            config.batch_size,
            config.workers,
            config.seed,
        )

    def training_module(self) -> Pretrainer:
        """Create the Lightning module."""
        from transxnet.training.pretrain_methods import METHODS

        features: Any = getattr(self.model, "head_hidden_size", self.model.num_features)
        arguments = [features] if self.teacher is None else [features, self.teacher]
        return Pretrainer(self.model, METHODS[self.config.method](*arguments), self.config, self.source.class_names)

    def description(self) -> dict[str, Any]:
        """Return the description to rebuild the network, which has no classes."""
        return {**super().description(), "class_names": []}

    def preprocessing(self) -> dict[str, Any]:
        """Return resizing, cropping and normalization as plain data."""
        return self.transforms.to_dict()


def plan_pretrain(
    defaults: DefaultsResolver[PretrainConfig], console: Console, stored_split: Path | None, resumed: bool
) -> PretrainPlan:
    """Plan a pretraining; see :func:`~transxnet.training.make_plan.make_plan`."""
    for module in ("lightly", "sklearn"):
        require_package(module, "transxnet[pretrain]", "transxnet pretrain")
    config = defaults.config
    source = open_pretraining_data(config, console, stored_split)
    size = config.img_size or source.img_size or default_img_size(config.model)
    model, granted, notes = build_network(config, 0, size, resumed)
    rate = granted.pop("drop_path_rate", 0.0)
    defaults.resolve("drop_path_rate", rate, "default" if rate else "the model does not support stochastic depth")
    transforms = Preprocessing.of_model(model, granted.get("img_size") or size)
    suits = "recommended for this sample" if source.img_size else "default of the model"
    defaults.resolve("img_size", transforms.img_size, suits)
    defaults.resolve("hflip", source.hflip, "default" if source.hflip else "this sample must not be mirrored")
    teacher = None
    if config.teacher is not None:
        teacher = Teacher(load_feature_teacher(config.teacher), transforms)
        notes.append(teacher.note)
    if len(source.class_names) > 1:
        notes.append("labels are used only for the accuracy of the nearest neighbors")
    args = parse_model_name(config.model).options | granted
    return PretrainPlan(
        defaults.config, defaults.hardware, source, model, args, defaults.choices, source.notes + notes, transforms,
        teacher,
    )  # fmt: skip

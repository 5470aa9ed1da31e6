"""Settings of a benchmark: models by name, each with its settings."""

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import timm
from torch import nn

from transxnet.models.create import check_name, create_model_with
from transxnet.models.model_spec import ModelSpec, parse_model_name
from transxnet.utils.errors import UserError, nearest
from transxnet.utils.image_size import parse_image_size

Mode = Literal["infer", "train"]
Dtype = Literal["float32", "bfloat16", "float16"]
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


@dataclass(frozen=True)
class Settings:
    """How one model is run.

    Attributes:
        mode: "infer", a forward pass, or "train", a training step.
        size: height and width of the images in pixels.
        batch: batch size.
        dtype: "float32", "bfloat16" or "float16".
        autocast: use autocast in inference, as always in training, instead of casting weights and images.
        compile: the mode of ``torch.compile``, or None for eager execution.
        channels_last: use the memory layout NHWC for weights and images.
        reparameterize: use the inference form of our networks.
        features: use the dense-prediction form, with an output for each stage.
        device: "cpu" or "cuda".
    """

    mode: Mode
    size: tuple[int, int]
    batch: int
    dtype: Dtype
    autocast: bool
    compile: str | None
    channels_last: bool
    reparameterize: bool
    features: bool
    device: str

    @property
    def under_autocast(self) -> bool:
        """Whether the model runs under PyTorch's autocast, instead of with weights and images cast."""
        return self.dtype != "float32" and (self.autocast or self.mode == "train")

    def __str__(self) -> str:
        """Format the settings that may differ between the models of a benchmark."""
        words = [self.dtype + " autocast" * self.under_autocast]
        words.append({None: "eager", "default": "compiled"}.get(self.compile, f"compiled {self.compile}"))
        words.append("channels_last" if self.channels_last else "contiguous")
        return ", ".join(words + ["reparameterized"] * self.reparameterize)


@dataclass(frozen=True)
class BenchmarkModel:
    """One model of a benchmark.

    Attributes:
        spec: one of our models or timm's, or ``module:factory``, with keyword arguments of the model.
        settings: how it is run.
    """

    spec: ModelSpec
    settings: Settings

    @property
    def name(self) -> str:
        """Name of the model or factory, without arguments."""
        return f"{self.spec.name}:{self.spec.part}" if self.spec.part else self.spec.name

    @property
    def arguments(self) -> dict[str, Any]:
        """Further keyword arguments of the model."""
        return self.spec.options

    @property
    def label(self) -> str:
        """The displayed name: without the settings, with the arguments."""
        return self.name + self.spec.label.removeprefix(self.spec.name)

    def create(self) -> nn.Module:
        """Create the model with random weights.

        A classifier with a fixed image size is created for the size of the benchmark's images, as in ``transxnet
        train``. The dense-prediction form is created for it only if it accepts no other, since detectors see images of
        many sizes.
        """
        form = {"features_only": True} if self.settings.features else {}
        if self.spec.part:
            return find_factory(self.name)(**form, **self.arguments)
        height, width = self.settings.size
        requested: dict[str, Any] = {"img_size": height if height == width else (height, width)}
        config = timm.get_pretrained_cfg(self.name)
        if form and not (config and config.fixed_input_size):
            requested = {}
        model, _ = create_model_with(self.spec, requested, **form)
        return model


def find_factory(name: str) -> Callable[..., nn.Module]:
    """Import the function that ``module:factory`` names; the current directory is searched too.

    Raises:
        UserError: the module does not exist, cannot be imported, or has no such function.
    """
    module_name, _, factory = name.partition(":")
    here = os.getcwd()
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing a user's module may raise anything
        raise UserError(
            f"cannot import module {module_name!r} of {name!r}: {type(error).__name__}: {error}. Install it, or run in "
            f"its folder instead of {here}."
        ) from error
    if not callable(getattr(module, factory, None)):
        functions = [known for known in vars(module) if callable(getattr(module, known))]
        raise UserError(f"{module_name} has no function {factory!r}.{nearest(factory, functions)}")
    return getattr(module, factory)


# Settings that may follow a model's name after "@", and their values.
NAMED_SETTINGS: dict[str, dict[str, Any]] = {
    "eager": {"compile": None},
    "compile": {"compile": "default"},
    "channels_last": {"channels_last": True},
    "contiguous": {"channels_last": False},
    "reparameterize": {"reparameterize": True},
    "original": {"reparameterize": False},
    "autocast": {"autocast": True},
    "cast": {"autocast": False},
    **{dtype: {"dtype": dtype} for dtype in get_args(Dtype)},
}
SETTINGS_WITH_VALUE: tuple[str, ...] = ("compile", "size")


def parse_benchmark_model(text: str, settings: Settings) -> BenchmarkModel:
    """Read ``NAME`` or ``NAME@SETTING,SETTING``.

    Args:
        text: the name and the settings of this model: keys of ``NAMED_SETTINGS``, ``compile=MODE``,
            ``size=PIXELS``, and keyword arguments of the model such as ``drop_path_rate=0.1`` or ``token_mixer=sra``.
        settings: settings of all models.

    Raises:
        UserError: the model or a setting does not exist, or settings conflict.
    """
    spec = parse_model_name(text)
    spec.check_settings(dict.fromkeys((*NAMED_SETTINGS, *SETTINGS_WITH_VALUE)), part=True)
    changes: dict[str, Any] = {}
    for name, value in spec.settings.items():
        if name == "size":
            changes["size"] = parse_image_size(value or "")
        else:
            changes |= NAMED_SETTINGS[name] if value is None else {"compile": check_compile_mode(value)}
    model = BenchmarkModel(spec, replace(settings, **changes))
    if spec.part:
        find_factory(model.name)
    else:
        check_name(spec)
    if model.settings.mode == "train" and model.settings.reparameterize:
        raise UserError(
            f"{model.name}: the inference form cannot be trained. Omit --reparameterize, or use --mode infer."
        )
    return model


def check_compile_mode(mode: str) -> str:
    """Return the mode; raise UserError unless ``torch.compile`` knows it."""
    if mode not in COMPILE_MODES:
        raise UserError(
            f"compile must be a mode of torch.compile, got {mode!r}.{nearest(mode, COMPILE_MODES)} "
            f"Accepted: {', '.join(COMPILE_MODES)}."
        )
    return mode

"""TransXNet, the vision backbone with a dual dynamic token mixer. Importing registers the models with timm."""

import importlib
from typing import TYPE_CHECKING, Any

from transxnet.utils.errors import UserError
from transxnet.utils.import_hook import import_after
from transxnet.version import __version__

if TYPE_CHECKING:
    from transxnet.ablation.ablate import ablate
    from transxnet.analysis.cost import info
    from transxnet.analysis.dynamics import dynamics
    from transxnet.analysis.erf import erf
    from transxnet.analysis.explain import explain
    from transxnet.benchmark.bench import bench
    from transxnet.checking.check import check
    from transxnet.deploy.export import export
    from transxnet.deploy.exported_model import load_exported
    from transxnet.deploy.format_registry import read_metadata
    from transxnet.deploy.push import push
    from transxnet.deploy.reparameterize import reparameterize
    from transxnet.deploy.verify_file import verify
    from transxnet.evaluation.evaluate import evaluate
    from transxnet.models import TransXNet, TransXNetFeatures, convert_official_state_dict
    from transxnet.models.create import create_model
    from transxnet.prediction.loaded_model import load
    from transxnet.prediction.predict import predict
    from transxnet.runs.config import TrainConfig
    from transxnet.studies.compare import compare
    from transxnet.studies.study import study
    from transxnet.training.pretrain import pretrain
    from transxnet.training.train import train
    from transxnet.web.app import app

__all__ = [
    "TrainConfig",
    "TransXNet",
    "TransXNetFeatures",
    "UserError",
    "__version__",
    "ablate",
    "app",
    "bench",
    "check",
    "compare",
    "convert_official_state_dict",
    "create_model",
    "dynamics",
    "erf",
    "evaluate",
    "explain",
    "export",
    "info",
    "load",
    "load_exported",
    "predict",
    "pretrain",
    "push",
    "read_metadata",
    "reparameterize",
    "study",
    "train",
    "verify",
]

# Imported lazily: torch and Lightning take seconds to import, and `transxnet --help` does not need them.
_LAZY = {
    "TrainConfig": ("transxnet.runs.config", "TrainConfig"),
    "TransXNet": ("transxnet.models", "TransXNet"),
    "TransXNetFeatures": ("transxnet.models", "TransXNetFeatures"),
    "ablate": ("transxnet.ablation.ablate", "ablate"),
    "app": ("transxnet.web.app", "app"),
    "bench": ("transxnet.benchmark.bench", "bench"),
    "check": ("transxnet.checking.check", "check"),
    "compare": ("transxnet.studies.compare", "compare"),
    "convert_official_state_dict": ("transxnet.models", "convert_official_state_dict"),
    "create_model": ("transxnet.models.create", "create_model"),
    "dynamics": ("transxnet.analysis.dynamics", "dynamics"),
    "erf": ("transxnet.analysis.erf", "erf"),
    "eval": ("transxnet.evaluation.evaluate", "evaluate"),  # not in __all__, since it would hide Python's eval
    "evaluate": ("transxnet.evaluation.evaluate", "evaluate"),
    "explain": ("transxnet.analysis.explain", "explain"),
    "export": ("transxnet.deploy.export", "export"),
    "info": ("transxnet.analysis.cost", "info"),
    "load": ("transxnet.prediction.loaded_model", "load"),
    "load_exported": ("transxnet.deploy.exported_model", "load_exported"),
    "predict": ("transxnet.prediction.predict", "predict"),
    "pretrain": ("transxnet.training.pretrain", "pretrain"),
    "push": ("transxnet.deploy.push", "push"),
    "read_metadata": ("transxnet.deploy.format_registry", "read_metadata"),
    "reparameterize": ("transxnet.deploy.reparameterize", "reparameterize"),
    "study": ("transxnet.studies.study", "study"),
    "train": ("transxnet.training.train", "train"),
    "verify": ("transxnet.deploy.verify_file", "verify"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


import_after("timm", "transxnet.models")  # registers the models

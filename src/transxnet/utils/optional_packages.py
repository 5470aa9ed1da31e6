"""Check for optional packages, and tell how to install them."""

import shlex
from importlib.util import find_spec

from transxnet.utils.errors import UserError

_PYPI_NAMES = {
    "elpv_dataset": "elpv-dataset",
    "faster_coco_eval": "faster-coco-eval",
    "pytorch_grad_cam": "grad-cam",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
"""Package names of modules whose names differ."""


def require_package(module: str, install: str, purpose: str) -> None:
    """Check that an optional package is installed, without importing it.

    Args:
        module: top-level module of the package, such as ``"pyarrow"``.
        install: argument of ``pip install``, such as ``"transxnet[parquet]"``.
        purpose: feature that needs it, as the subject of the message: ``"Parquet output"`` (needs ...).

    Raises:
        UserError: the package is not installed.
    """
    if find_spec(module) is None:
        packages = " ".join(map(shlex.quote, install.split()))
        name = _PYPI_NAMES.get(module, module)
        raise UserError(f"{purpose} needs the package {name}. Install it with: pip install {packages}")

"""Packages that only some functions need: whether they are installed, and how to install them."""

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
"""Of modules that are not named like the package that brings them."""


def require_package(module: str, install: str, purpose: str) -> None:
    """Check that an optional package is installed; nothing is imported.

    Args:
        module: its top-level module, such as ``"pyarrow"``.
        install: what ``pip install`` takes to bring it, such as ``"transxnet[parquet]"``.
        purpose: what needs it, as the subject of a sentence that goes on with "needs": ``"Parquet output"``.

    Raises:
        UserError: it is not installed.
    """
    if find_spec(module) is None:
        packages = " ".join(map(shlex.quote, install.split()))
        name = _PYPI_NAMES.get(module, module)
        raise UserError(f"{purpose} needs the package {name}. Install it with: pip install {packages}")

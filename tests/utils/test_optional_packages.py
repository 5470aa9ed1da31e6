import sys

import pytest

from transxnet.utils.errors import UserError
from transxnet.utils.optional_packages import require_package


def test_installed_package_passes_without_being_imported():
    before = set(sys.modules)
    require_package("lib2to3" if sys.version_info < (3, 13) else "cProfile", "nothing", "a test")
    require_package("numpy", "numpy", "a test")
    assert set(sys.modules) == before


def test_missing_package_is_an_error_with_the_command(monkeypatch):
    with pytest.raises(UserError) as error:
        require_package("no_such_package", "transxnet[export]", "Quantization")
    assert str(error.value) == (
        "Quantization needs the package no_such_package. Install it with: pip install 'transxnet[export]'"
    )
    monkeypatch.setitem(sys.modules, "sklearn", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"needs the package scikit-learn\. Install it with: pip install a b-c$"):
        require_package("sklearn", "a b-c", "a test")

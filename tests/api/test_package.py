import builtins
import subprocess
import sys
import warnings

import pytest

import transxnet


def test_import_is_silent_and_skips_lightning_and_matplotlib():
    slow = ("lightning", "matplotlib", "torchmetrics", "jsonargparse")
    code = f"import sys, transxnet; dir(transxnet); sys.exit([m for m in {slow} if m in sys.modules] or 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_commands_are_functions_of_the_same_name():
    from transxnet.analysis.cost import info
    from transxnet.evaluation.evaluate import evaluate
    from transxnet.prediction.predict import predict
    from transxnet.training.train import train

    assert (transxnet.train, transxnet.predict, transxnet.info) == (train, predict, info)
    assert transxnet.evaluate is transxnet.eval is evaluate


def test_public_names_exist():
    assert set(transxnet.__all__) <= set(dir(transxnet))
    assert all(getattr(transxnet, name) is not None for name in transxnet.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = transxnet.trian


@pytest.mark.parametrize("kind", [UserWarning, DeprecationWarning, FutureWarning, RuntimeWarning])
@pytest.mark.parametrize("module", ["transxnet", "transxnet.training.train", "transxnet.data.reading.image_decoding"])
def test_warnings_caused_by_the_package_fail_a_test(kind, module):
    """A warning about a call is attributed to the caller if the library sets its stack level."""
    with pytest.raises(kind, match="old"):
        warnings.warn_explicit("old", kind, "file.py", 1, module)
    with pytest.warns(kind, match="old"):
        warnings.warn_explicit("old", kind, "file.py", 1, "somebody.else")


def test_import_star_shadows_no_builtin():
    assert not set(dir(builtins)).intersection(transxnet.__all__)

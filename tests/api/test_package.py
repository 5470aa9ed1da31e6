import subprocess
import sys
import warnings

import pytest

import transxnet


def test_importing_is_silent_and_leaves_lightning_and_matplotlib_out():
    slow = ("lightning", "matplotlib", "torchmetrics", "jsonargparse")
    code = f"import sys, transxnet; dir(transxnet); sys.exit([m for m in {slow} if m in sys.modules] or 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_the_commands_are_functions_of_the_same_names():
    from transxnet.analysis.cost import info
    from transxnet.evaluation.evaluate import evaluate
    from transxnet.prediction.predict import predict
    from transxnet.training.train import train

    assert (transxnet.train, transxnet.eval, transxnet.predict, transxnet.info) == (train, evaluate, predict, info)


def test_all_that_is_offered_is_there():
    assert set(transxnet.__all__) <= set(dir(transxnet))
    assert all(getattr(transxnet, name) is not None for name in transxnet.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = transxnet.trian


@pytest.mark.parametrize("kind", [UserWarning, DeprecationWarning, FutureWarning, RuntimeWarning])
@pytest.mark.parametrize("module", ["transxnet", "transxnet.training.train", "transxnet.data.reading.image_decoding"])
def test_a_warning_of_our_own_code_or_of_what_it_calls_fails_a_test(kind, module):
    """A warning about a call is attributed to the caller if the library sets its stack level."""
    with pytest.raises(kind, match="old"):
        warnings.warn_explicit("old", kind, "file.py", 1, module)
    with pytest.warns(kind, match="old"):
        warnings.warn_explicit("old", kind, "file.py", 1, "somebody.else")

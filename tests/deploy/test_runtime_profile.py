"""The profiles of the runtimes in benchmarks: every kernel belongs to a kind."""

import pytest

from benchmarks.runtime_profile import MODELS, RUNTIMES_WITH_PROFILE, profile, report

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")


@pytest.mark.long
@pytest.mark.parametrize("runtime", RUNTIMES_WITH_PROFILE)
def test_every_kernel_has_a_time_and_a_kind(runtime, capsys):
    kernels = profile(runtime, batch=1, size=64, variant="transxnet_n", passes=2)
    assert tuple(kernels) == MODELS
    for each in kernels.values():
        kinds = [kind for _, kind in each]
        assert {"1x1 convolutions", "depthwise convolutions", "matrix products", "norms"} <= set(kinds)
        assert "other" not in kinds
        assert all(milliseconds >= 0 for milliseconds in each.values())
    report(kernels)
    assert "| of them convolutions and products |" in capsys.readouterr().out

"""The dtype in which operators compute under autocast."""

import pytest
import torch

from transxnet.ops.autocast import cast_to_autocast


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_autocast_casts_floating_types_to_its_dtype(dtype):
    x = torch.ones(2, dtype=dtype)
    assert cast_to_autocast(x) is x
    with torch.autocast("cpu", torch.bfloat16):
        assert cast_to_autocast(x).dtype == torch.bfloat16
        with torch.autocast("cpu", enabled=False):
            assert cast_to_autocast(x) is x


def test_autocast_keeps_float64_and_devices_without_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert cast_to_autocast(torch.ones(2, dtype=torch.float64)).dtype == torch.float64
        assert cast_to_autocast(torch.ones(2, device="meta")).dtype == torch.float32

"""Requirements of every kernel launch."""

import pytest
import torch

from transxnet.ops.kernels.launch import empty_output, is_channels_last, on_device


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_output_has_dtype_and_layout_of_input(layout, channels):
    x = torch.zeros(2, channels, 4, 5, dtype=torch.bfloat16).contiguous(memory_format=layout)
    out = empty_output(x)
    assert (out.shape, out.dtype, out.device) == (x.shape, x.dtype, x.device)
    assert out.is_contiguous(memory_format=layout)
    assert is_channels_last(out) == is_channels_last(x) == (channels > 1 and layout is torch.channels_last)


def test_output_of_sliced_input_is_dense():
    wide = torch.zeros(2, 8, 4, 5)
    assert empty_output(wide[:, :3]).is_contiguous()
    pixels = wide.contiguous(memory_format=torch.channels_last)[:, :3]
    assert empty_output(pixels).is_contiguous(memory_format=torch.channels_last)


def test_launch_on_cpu_selects_no_gpu():
    with on_device(torch.zeros(1)) as entered:
        assert entered is None

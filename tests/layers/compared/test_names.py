"""The compared parts are registered wherever the layers are imported."""

import subprocess
import sys

import pytest
from torch import nn

from transxnet.layers import OSRA, Block, DMixer, compared
from transxnet.layers.ffn import FFN


@pytest.mark.long
def test_names_are_known_in_a_process_that_imports_layers_alone():
    code = "from transxnet.layers import DMixer; print(type(DMixer(16, local_conv='dyconv').idconv).__name__)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("DyConv\n", "")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("dwconv", compared.DWConv),
        ("window", compared.WindowAttention),
        ("dyconv", compared.DyConv),
        ("d_dwconv", compared.DDWConv),
    ],
)
def test_a_local_convolution_gets_kernel_groups_and_heads(name, part):
    made = DMixer(16, num_heads=2, kernel_size=5, num_groups=3, local_conv=name).idconv
    assert type(made) is part
    sizes = {
        "dwconv": lambda: made.dwconv.kernel_size == (5, 5),
        "window": lambda: (made.num_heads, made.window_size) == (2, 5),
        "dyconv": lambda: made.weight.shape == (3, 8, 5, 5),
        "d_dwconv": lambda: made.kernel_size == 5,
    }
    assert sizes[name]()


def test_the_reduction_and_the_plain_ffn_are_known_by_option():
    reduction = OSRA(8, sr_ratio=4, spatial_reduction="non_overlapping").reduction
    assert type(reduction) is compared.NonOverlappingSpatialReduction
    assert type(OSRA(8, spatial_reduction="non_overlapping").reduction) is nn.Identity
    assert type(Block(16, ffn_scales=()).ffn) is compared.FFN is FFN

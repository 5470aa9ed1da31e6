"""Accepted layer arguments, and error messages for all others."""

import pytest
from torch import nn

from transxnet.layers.checks import check_attn_ratio, check_divisible, check_odd, is_custom_part, resolve_part
from transxnet.utils.errors import UserError

PARTS = {"conv": nn.Conv2d, "none": nn.Identity, None: nn.Identity}


@pytest.mark.parametrize(
    ("value", "custom"), [(nn.Conv2d, True), (nn.Identity(), False), ("conv", False), (None, False)]
)
def test_a_custom_part_is_a_class_and_not_a_module(value, custom):
    assert is_custom_part(value) == custom


@pytest.mark.parametrize(("value", "part"), [("conv", nn.Conv2d), (None, nn.Identity), (nn.Linear, nn.Linear)])
def test_part_is_resolved_by_name_or_used_unchanged(value, part):
    assert resolve_part("mixer", value, PARTS, "dim") is part


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cnv", r"mixer must be 'conv', 'none', None, or .* called with \(dim\), got 'cnv'. Did you mean 'conv'"),
        (7, r"got 7\.$"),
        (nn.Identity(), "Pass the class, not an instance"),
    ],
)
def test_an_unknown_part_is_refused_with_the_accepted_names(value, message):
    with pytest.raises(UserError, match=message):
        resolve_part("mixer", value, PARTS, "dim")


@pytest.mark.parametrize(("dim", "nearest"), [(10, "8 or 12"), (3, "4"), (7, "4 or 8")])
def test_the_nearest_divisible_sizes_are_named(dim, nearest):
    with pytest.raises(ValueError, match=f"dim={dim} must be divisible by heads=4; nearest accepted: {nearest}$"):
        check_divisible("dim", dim, "heads", 4)


@pytest.mark.parametrize("size", [0, 4, -3, 3.0, True])
def test_only_positive_odd_integers_are_odd(size):
    with pytest.raises(ValueError, match="kernel_size must be"):
        check_odd(kernel_size=size)
    check_odd(kernel_size=3)


@pytest.mark.parametrize("ratio", [0, 1, 0.3, 1.5, "half", True])
def test_the_heads_must_divide_the_share_of_attention(ratio):
    with pytest.raises(UserError, match="for 8 channels with 2 heads and 16 channels with 4 heads"):
        check_attn_ratio(ratio, [(8, 2), (16, 4)])
    for accepted in (0.25, 0.5, 0.75):
        check_attn_ratio(accepted, [(8, 2), (16, 4)])

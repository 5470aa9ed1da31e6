import pytest
import torch

from tests.helpers.formulas import rand
from transxnet.layers.compared.padding import pad_to_multiple


@pytest.mark.parametrize(("size", "padded"), [((6, 9), (6, 9)), ((5, 7), (6, 9)), ((1, 1), (3, 3)), ((6, 10), (6, 12))])
def test_sides_are_zero_padded_at_the_end_to_multiples(size, padded):
    x = rand(2, 4, *size)
    out = pad_to_multiple(x, 3)
    assert out.shape == (2, 4, *padded)
    assert torch.equal(out[:, :, : size[0], : size[1]], x)
    assert out.count_nonzero() == x.count_nonzero()

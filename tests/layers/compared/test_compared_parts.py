"""What every part that the paper compares its own with has in common."""

import pytest
import torch

from tests.helpers.formulas import close, rand
from transxnet.layers import compared

PARTS = {
    "DWConv": (8, lambda: compared.DWConv(8, 5)),
    "DyConv": (8, lambda: compared.DyConv(8, 5, num_kernels=3, temperature=2.0)),
    "DDWConv": (8, lambda: compared.DDWConv(8, 5)),
    "WindowAttention": (8, lambda: compared.WindowAttention(8, 2, window_size=3)),
    "ShiftedWindowAttention": (8, lambda: compared.ShiftedWindowAttention(8, 2, window_size=4, shift=2)),
    "SepConv": (6, lambda: compared.SepConv(6)),
    "SRA": (8, lambda: compared.SRA(8, 2, sr_ratio=2)),
    "MixingBlock": (32, lambda: compared.MixingBlock(32, 2, window_size=3)),
    "ACmix": (8, lambda: compared.ACmix(8, 2, window_size=4, shift=2)),
    "FFN": (6, lambda: compared.FFN(6, 3)),
}
PART = pytest.mark.parametrize(("dim", "make"), PARTS.values(), ids=PARTS)


@PART
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (1, 1), (3, 13)])
def test_shape_is_kept_at_any_size(randomize, dim, make, height, width):
    part, x = randomize(make()).double().eval(), rand(2, dim, height, width)
    out = part(x)
    assert out.shape == x.shape
    assert out.isfinite().all()
    assert not torch.equal(out, x)


@PART
@pytest.mark.parametrize("train", [True, False])
def test_every_parameter_and_the_input_get_a_gradient(randomize, dim, make, train):
    part, x = randomize(make()).double().train(train), rand(3, dim, 9, 8).requires_grad_()
    part(x).square().sum().backward()
    assert x.grad.any()
    assert [name for name, p in part.named_parameters() if p.grad is None or not p.grad.any()] == []


@PART
def test_samples_of_a_batch_do_not_see_each_other_in_eval_mode(randomize, dim, make):
    part, x = randomize(make()).double().eval(), rand(3, dim, 6, 5)
    close(part(x), torch.cat([part(sample[None]) for sample in x]))


@PART
def test_an_empty_batch_passes(dim, make):
    assert make().double().eval()(rand(0, dim, 7, 8)).shape == (0, dim, 7, 8)


@PART
@torch.no_grad()
def test_autocast_computes_in_bfloat16_and_stays_close(randomize, dim, make):
    part, x = randomize(make()).eval(), torch.randn(2, dim, 9, 8)
    truth = part(x)
    with torch.autocast("cpu", torch.bfloat16):
        out = part(x)
    assert out.dtype == torch.bfloat16
    assert (out - truth).abs().max() < 0.03 * truth.abs().max()


@pytest.mark.parametrize(
    ("make", "value", "accepted"),
    [
        (lambda: compared.DWConv(8, 4), "4", "kernel_size must be odd"),
        (lambda: compared.DWConv(0), "0", "dim must be a positive integer"),
        (lambda: compared.DyConv(8, num_kernels=1), "1", "num_kernels must be at least 2"),
        (lambda: compared.DyConv(8, temperature=0), "0", "temperature must be above 0"),
        (lambda: compared.DyConv(3), "3", "at least reduction_ratio=4"),
        (lambda: compared.DDWConv(3), "3", "at least reduction_ratio=4"),
        (lambda: compared.DDWConv(8, 6), "6", "kernel_size must be odd"),
        (
            lambda: compared.WindowAttention(10, 4),
            "dim=10",
            "divisible by num_heads=4; the nearest that works: 8 or 12",
        ),
        (lambda: compared.WindowAttention(8, window_size=0), "0", "window_size must be a positive integer"),
        (
            lambda: compared.ShiftedWindowAttention(8, window_size=7, shift=7),
            "7",
            "shift must be an integer from 0 to 6",
        ),
        (lambda: compared.ShiftedWindowAttention(8, shift=-1), "-1", "shift must be an integer from 0 to 6"),
        (lambda: compared.SepConv(8, 4), "4", "kernel_size must be odd"),
        (lambda: compared.SepConv(8, expansion=0), "0", "expansion must be a positive integer"),
        (lambda: compared.SRA(10, 4), "dim=10", "the nearest that works: 8 or 12"),
        (lambda: compared.SRA(8, sr_ratio=0), "0", "sr_ratio must be a positive integer"),
        (lambda: compared.MixingBlock(8), "8", "dim must be at least 16"),
        (lambda: compared.MixingBlock(17), "dim=17", "the nearest that works: 16 or 18"),
        (lambda: compared.MixingBlock(24, 5), "dim / 2=12", "the nearest that works: 10 or 15"),
        (lambda: compared.ACmix(10, 4), "dim=10", "the nearest that works: 8 or 12"),
        (lambda: compared.ACmix(8, kernel_size=2), "2", "kernel_size must be odd"),
        (lambda: compared.FFN(8, 0), "0", "expansion must be a positive integer"),
        (lambda: compared.NonOverlappingPatchEmbed(3, 8, 0), "0", "stride must be a positive integer"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value_and_what_is_accepted(make, value, accepted):
    with pytest.raises(ValueError, match=accepted) as error:
        make()
    assert value in str(error.value)


@pytest.mark.parametrize("name", PARTS)
def test_a_misspelt_argument_is_an_error(name):
    with pytest.raises(TypeError, match="kernel_sise"):
        getattr(compared, name)(16, kernel_sise=3)

"""The contract of every layer: the paper's named parts, and the parts it compares them with."""

import pytest
import torch

from tests.helpers.formulas import close, rand
from transxnet import layers
from transxnet.layers import DPE, MSFFN, OSRA, STE, Block, DMixer, IDConv, LayerScale, PatchEmbed, compared

# Input channels, and a constructor of the layer.
LAYERS = {
    "DPE": (6, lambda: DPE(6)),
    "IDConv": (8, lambda: IDConv(8, kernel_size=5, num_groups=3)),
    "OSRA reduced": (8, lambda: OSRA(8, num_heads=2, sr_ratio=2)),
    "OSRA": (8, lambda: OSRA(8, num_heads=4)),
    "STE": (8, lambda: STE(8)),
    "DMixer": (16, lambda: DMixer(16, num_heads=2, sr_ratio=4)),
    "MSFFN": (6, lambda: MSFFN(6, expansion=3)),
    "LayerScale": (6, lambda: LayerScale(6)),
    "Block": (16, lambda: Block(16, num_heads=2, sr_ratio=2)),
}
COMPARED = {
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
EVERY = {**LAYERS, **COMPARED}
LAYER = pytest.mark.parametrize(("dim", "make"), EVERY.values(), ids=EVERY)


@LAYER
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (1, 1), (3, 12), (3, 13)])
def test_shape_is_kept_at_any_size(randomize, dim, make, height, width):
    layer, x = randomize(make()).double().eval(), rand(2, dim, height, width)
    out = layer(x)
    assert out.shape == x.shape
    assert out.isfinite().all()
    assert not torch.equal(out, x)


@LAYER
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("batch", "height"), [(2, 8), (3, 9)])
def test_every_parameter_and_the_input_get_a_gradient(randomize, dim, make, train, batch, height):
    layer, x = randomize(make()).double().train(train), rand(batch, dim, height, 8).requires_grad_()
    layer(x).square().sum().backward()
    assert x.grad.any()
    assert [name for name, p in layer.named_parameters() if p.grad is None or not p.grad.any()] == []


@LAYER
def test_samples_of_a_batch_are_independent_in_eval_mode(randomize, dim, make):
    layer, x = randomize(make()).double().eval(), rand(3, dim, 6, 5)
    close(layer(x), torch.cat([layer(sample[None]) for sample in x]))


@LAYER
@pytest.mark.parametrize("height", [7, 8])
def test_an_empty_batch_passes(dim, make, height):
    assert make().double().eval()(rand(0, dim, height, 8)).shape == (0, dim, height, 8)


@LAYER
@torch.no_grad()
def test_autocast_computes_in_bfloat16_and_stays_close(randomize, dim, make):
    layer, x = randomize(make()).eval(), torch.randn(2, dim, 9, 8)
    truth = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    # Residual branches and scales keep the precision of the input.
    assert out.dtype == (torch.float32 if isinstance(layer, STE | LayerScale) else torch.bfloat16)
    assert (out - truth).abs().max() < 0.03 * truth.abs().max()


@pytest.mark.parametrize(
    ("make", "value", "accepted"),
    [
        (lambda: DPE(0), "0", "dim must be a positive integer"),
        (lambda: DPE(8, kernel_size=4), "4", "kernel_size must be odd"),
        (lambda: IDConv(8.0), "8.0", "dim must be a positive integer"),
        (lambda: IDConv(8, kernel_size=6), "6", "kernel_size must be odd"),
        (lambda: IDConv(8, num_groups=1), "1", "num_groups must be at least 2"),
        (lambda: IDConv(8, num_groups=True), "True", "num_groups must be a positive integer"),
        (lambda: IDConv(3), "3", "at least reduction_ratio=4"),
        (lambda: IDConv(8, reduction_ratio=-1), "-1", "reduction_ratio must be a positive integer"),
        (lambda: OSRA(10, num_heads=4), "dim=10", "divisible by num_heads=4; nearest accepted: 8 or 12"),
        (lambda: OSRA(8, num_heads=0), "0", "num_heads must be a positive integer"),
        (lambda: OSRA(8, sr_ratio=0), "0", "sr_ratio must be a positive integer"),
        (lambda: STE(8, reduction_ratio=0), "0", "reduction_ratio must be a positive integer"),
        (lambda: STE(8, min_dim="16"), "'16'", "min_dim must be a positive integer"),
        (lambda: DMixer(15), "dim=15", "nearest accepted: 14 or 16"),
        (lambda: DMixer(24, num_heads=5), "dim=12", "nearest accepted: 10 or 15"),
        (lambda: MSFFN(8, expansion=0), "0", "expansion must be a positive integer"),
        (lambda: MSFFN(8, scales=()), "()", "scales must have 1 to 32 kernel sizes"),
        (lambda: MSFFN(1, 1, scales=(1, 3)), "(1, 3)", "scales must have 1 to 1 kernel sizes"),
        (lambda: MSFFN(8, scales=(1, 2)), "2", "scale must be odd"),
        (lambda: PatchEmbed(3, 8, patch_size=2), "2", "patch_size must be odd"),
        (lambda: PatchEmbed(3, 8, stride=0), "0", "stride must be a positive integer"),
        (lambda: Block(15), "dim=15", "nearest accepted: 14 or 16"),
        (lambda: compared.DWConv(8, 4), "4", "kernel_size must be odd"),
        (lambda: compared.DWConv(0), "0", "dim must be a positive integer"),
        (lambda: compared.DyConv(8, num_kernels=1), "1", "num_kernels must be at least 2"),
        (lambda: compared.DyConv(8, temperature=0), "0", "temperature must be greater than 0"),
        (lambda: compared.DyConv(3), "3", "at least reduction_ratio=4"),
        (lambda: compared.DDWConv(3), "3", "at least reduction_ratio=4"),
        (lambda: compared.DDWConv(8, 6), "6", "kernel_size must be odd"),
        (
            lambda: compared.WindowAttention(10, 4),
            "dim=10",
            "divisible by num_heads=4; nearest accepted: 8 or 12",
        ),
        (lambda: compared.WindowAttention(8, window_size=0), "0", "window_size must be a positive integer"),
        (
            lambda: compared.ShiftedWindowAttention(8, window_size=7, shift=7),
            "7",
            r"shift must be an integer from 0 to window_size - 1 \(6\)",
        ),
        (
            lambda: compared.ShiftedWindowAttention(8, shift=-1),
            "-1",
            r"shift must be an integer from 0 to window_size - 1 \(6\)",
        ),
        (lambda: compared.SepConv(8, 4), "4", "kernel_size must be odd"),
        (lambda: compared.SepConv(8, expansion=0), "0", "expansion must be a positive integer"),
        (lambda: compared.SRA(10, 4), "dim=10", "nearest accepted: 8 or 12"),
        (lambda: compared.SRA(8, sr_ratio=0), "0", "sr_ratio must be a positive integer"),
        (lambda: compared.MixingBlock(8), "8", "dim must be at least 16"),
        (lambda: compared.MixingBlock(17), "dim=17", "nearest accepted: 16 or 18"),
        (lambda: compared.MixingBlock(24, 5), "dim / 2=12", "nearest accepted: 10 or 15"),
        (lambda: compared.ACmix(10, 4), "dim=10", "nearest accepted: 8 or 12"),
        (lambda: compared.ACmix(8, kernel_size=2), "2", "kernel_size must be odd"),
        (lambda: compared.FFN(8, 0), "0", "expansion must be a positive integer"),
        (lambda: compared.NonOverlappingPatchEmbed(3, 8, 0), "0", "stride must be a positive integer"),
    ],
)
def test_invalid_argument_error_names_the_accepted_values(make, value, accepted):
    with pytest.raises(ValueError, match=accepted) as error:
        make()
    assert value in str(error.value)


@pytest.mark.parametrize("name", [*sorted({name.split()[0] for name in LAYERS}), *COMPARED])
def test_misspelled_argument_is_an_error(name):
    layer = getattr(layers if name in layers.__all__ else compared, name)
    with pytest.raises(TypeError, match="kernel_sise"):
        layer(16, kernel_sise=3)

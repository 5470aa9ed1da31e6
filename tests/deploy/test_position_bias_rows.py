"""A position bias computed row by row against the matrix of F.interpolate."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from transxnet import reparameterize
from transxnet.deploy import position_bias_rows
from transxnet.deploy.position_bias_rows import InferencePositionBias, PositionBiasRows, attention_by_rows
from transxnet.layers import PositionBias

# Heads, stored size and target size: larger, smaller, odd, and different in each direction.
SIZES = [
    (1, (16, 4), (240, 12)),
    (2, (49, 9), (221, 15)),
    (3, (64, 25), (37, 7)),
    (2, (30, 4), (31, 4)),
    (4, (5, 16), (77, 3)),
    (2, (1, 1), (10, 2)),
    (1, (50, 6), (2, 1)),
]


@pytest.fixture
def by_rows(monkeypatch):
    """Treat every resized bias as large and compute a few rows at a time."""
    monkeypatch.setattr(position_bias_rows, "LARGEST_WHOLE", 0)
    monkeypatch.setattr(position_bias_rows, "AT_A_TIME", 100)


def whole(weight: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(weight, size=size, mode="bicubic", align_corners=False)


def rows_of(weight: Tensor, size: tuple[int, int]) -> PositionBiasRows:
    return PositionBiasRows(whole(weight, (weight.shape[2], size[1])), size[0])


def stored(num_heads: int, size: tuple[int, int], dtype: torch.dtype = torch.float64) -> InferencePositionBias:
    bias = PositionBias(num_heads, *size).to(dtype)
    torch.nn.init.normal_(bias.weight)
    return InferencePositionBias(bias)


def close(actual: Tensor, truth: Tensor, rel: float = 1e-9) -> None:
    torch.testing.assert_close(actual, truth, rtol=0, atol=rel * truth.abs().max().item())


@pytest.mark.parametrize(("num_heads", "size", "wanted"), SIZES)
@torch.no_grad()
def test_pieces_are_the_rows_of_the_resized_bias(by_rows, num_heads, size, wanted):
    weight = torch.randn(1, num_heads, *size, dtype=torch.float64)
    pieces = list(rows_of(weight, wanted).pieces())
    truth = whole(weight, wanted)
    for rows, piece in pieces:
        close(piece, truth[:, :, rows])
    assert sum(piece.shape[2] for _, piece in pieces) == wanted[0]
    assert len(pieces) > 1 or truth.numel() <= 100


@torch.no_grad()
def test_float32_positions_match_pytorch_for_many_rows():
    weight = torch.randn(1, 1, 3136, 4)
    pieces = [piece for _, piece in rows_of(weight, (64000, 4)).pieces()]
    # Positions with different rounding, as on a CPU without FMA, are off by 1e-4 of a row.
    close(torch.cat(pieces, dim=2), whole(weight, (64000, 4)), rel=5e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_is_summed_in_float32(dtype):
    weight = torch.randn(1, 2, 20, 6).to(dtype)
    for rows, piece in rows_of(weight, (90, 6)).pieces():
        assert piece.dtype == torch.float32
        close(piece, whole(weight.float(), (90, 6))[:, :, rows], rel=1e-5)


@pytest.mark.parametrize(("num_heads", "size", "wanted"), SIZES)
@torch.no_grad()
def test_attention_by_rows_equals_attention_with_the_bias(by_rows, num_heads, size, wanted):
    weight = torch.randn(1, num_heads, *size, dtype=torch.float64)
    q, k, v = (torch.randn(2, num_heads, n, 8, dtype=torch.float64) for n in (wanted[0], wanted[1], wanted[1]))
    truth = ((q @ k.transpose(2, 3)) / 8**0.5 + whole(weight, wanted)).softmax(dim=-1) @ v
    close(attention_by_rows(q, k, v, rows_of(weight, wanted)), truth)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [(96, 160), (72, 88), (33, 65), (8, 5), (64, 64)])
@torch.no_grad()
def test_network_by_rows_gives_the_same(tiny, by_rows, size, channels_last):
    model, x = tiny(), torch.randn(2, 3, *size, dtype=torch.float64)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = reparameterize(model).to(memory_format=layout)
    if size[0] > 64:
        assert isinstance(network.stages[0].pos_bias(size[0] * size[1] // 16, 15), PositionBiasRows)
    close(network(x.contiguous(memory_format=layout)), model(x))
    close(network(x[:1].contiguous(memory_format=layout)), model(x[:1]))


@torch.no_grad()
def test_autocast_and_empty_batch(tiny, by_rows):
    model, x = tiny(), torch.randn(2, 3, 96, 96)
    truth = model(x.double())
    network = reparameterize(model.float())
    assert network(x[:0]).shape == (0, 5)
    with torch.autocast("cpu", torch.bfloat16):
        close(network(x).double(), truth, rel=0.05)


@torch.no_grad()
def test_only_a_large_bias_is_computed_by_rows():
    bias = stored(2, (64, 4))
    assert isinstance(bias(4096, 1024), Tensor)
    assert isinstance(bias(4097, 2048), PositionBiasRows)


@torch.no_grad()
def test_fewer_rows_and_prepared_size_stay_whole(by_rows):
    bias = stored(2, (64, 4))
    assert isinstance(bias(64, 9), Tensor)
    assert isinstance(bias(30, 9), Tensor)
    assert isinstance(InferencePositionBias(bias, (100, 9))(100, 9), Tensor)


@pytest.mark.long
def test_gradients_compilers_and_devices_get_the_whole_bias(tiny, by_rows):
    model = tiny()
    network, x = reparameterize(model), torch.randn(1, 3, 96, 96, dtype=torch.float64)
    bias = network.stages[0].pos_bias
    assert isinstance(bias(576, 9), Tensor)
    with torch.no_grad():
        assert isinstance(bias(576, 9), PositionBiasRows)
        assert isinstance(copy.deepcopy(bias).to("meta")(576, 9), Tensor)
        torch.compiler.reset()
        compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
        exported = torch.export.export(network, (x,))
        truth = model(x)
        close(compiled(x), truth)
        close(exported.module()(x), truth)
    assert not any("embedding_bag" in str(node.target) for node in exported.graph.nodes)


@torch.no_grad()
def test_partly_resized_bias_is_cached_until_weights_change(by_rows):
    bias = stored(1, (16, 4))
    first = bias(100, 9).stored_rows
    assert bias(100, 9).stored_rows.data_ptr() == first.data_ptr()
    bias.weight.add_(1)
    weight = bias.weight
    for rows, piece in bias(100, 9).pieces():
        close(piece, whole(weight, (100, 9))[:, :, rows])

"""Generated kernels and attention against loops, OSRA's output, and known values."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from transxnet import UserError, create_model
from transxnet.analysis.kernel_variation import attention_variation, kernel_variation, mixer_dynamics
from transxnet.analysis.network_parts import record_calls


def kernels_by_hand(conv, x):
    """Eq. 3 of the paper, computed sample by sample, channel by channel and position by position."""
    expected = torch.zeros(len(x), conv.dim, conv.kernel_size, conv.kernel_size, dtype=x.dtype)
    pooled = F.adaptive_avg_pool2d(x, conv.kernel_size)
    for b in range(len(x)):
        for i in range(conv.kernel_size):
            for j in range(conv.kernel_size):
                hidden = conv.act(conv.squeeze(pooled[b, :, i, j][None, :, None, None]))
                logits = conv.expand(hidden).flatten()
                for c in range(conv.dim):
                    shares = torch.stack([logits[g * conv.dim + c] for g in range(conv.num_groups)]).softmax(0)
                    bank = conv.weight[:, c, i, j]
                    expected[b, c, i, j] = (shares * bank).sum()
    return expected


@torch.no_grad()
def test_kernels_match_a_loop_and_attention_gives_osra_output(tiny, images):
    network = tiny()
    mixer = network.stages[0].blocks[0].mixer
    with record_calls(mixer.idconv, mixer.osra) as (local, distant):
        network(images)
    found = mixer_dynamics(network, images)
    assert [entry.name for entry in found] == [f"stages.{i}.blocks.0.mixer" for i in range(4)]
    expected = kernels_by_hand(mixer.idconv, local.inputs[0][0])
    np.testing.assert_allclose(found[0].kernels, expected.numpy(), rtol=0, atol=1e-6)

    x, bias = distant.inputs[0]
    assert bias is not None
    attention = mixer.osra.attention(x, bias)
    torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention[..., 0]), rtol=0, atol=1e-12)
    out = (attention @ mixer.osra.qkv(x)[2]).transpose(2, 3).reshape(x.shape)
    torch.testing.assert_close(out, distant.outputs[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(found[0].attention, attention.numpy(), rtol=0, atol=1e-6)
    assert (found[0].size, found[0].key_size) == ((16, 16), (2, 2))


@pytest.mark.parametrize(
    ("second", "variation"), [([1.0, 0, 0], 0.0), ([-1.0, 0, 0], 1.0), ([0, 1.0, 0], 0.5**0.5), ([3.0, 0, 0], 0.2**0.5)]
)
def test_kernel_variation_has_known_values(second, variation):
    assert kernel_variation(np.array([[1.0, 0, 0], second])) == pytest.approx(variation, abs=1e-12)
    assert kernel_variation(np.zeros((2, 3))) == 0


def test_attention_variation_has_known_values():
    first, second = np.array([[0.5, 0.5, 0], [1, 0, 0]]), np.array([[0, 0, 1], [0.5, 0.5, 0]])
    assert attention_variation(np.stack([first, first])[:, None]) == 0
    assert attention_variation(np.stack([first, second])[:, None]) == pytest.approx((1 + 0.5) / 2)
    assert attention_variation(np.stack([first, first, second])[:, None]) == pytest.approx(0.75 * 2 / 3)


def test_variation_is_zero_for_equal_images_only(tiny, images):
    network = tiny()
    for entry in mixer_dynamics(network, images[:1].expand(2, -1, -1, -1)):
        assert entry.kernel_variation < 1e-6
        assert entry.attention_variation < 1e-6
    for entry in mixer_dynamics(network, images):
        assert 1e-4 < entry.kernel_variation < 1
        assert 1e-5 < entry.attention_variation < 1


@pytest.mark.parametrize("local_conv", ["dyconv", "d_dwconv"])
def test_other_dynamic_convolutions_give_kernels(local_conv, tiny, images):
    (first, *_) = mixer_dynamics(tiny(local_conv=local_conv), images)
    assert first.kernels.shape == (2, 8, 7, 7)


@pytest.mark.parametrize("name", ["test_resnet", "transxnet_n"])
def test_networks_without_dynamic_kernels_are_errors(name, images):
    options = {"local_conv": "dwconv"} if name == "transxnet_n" else {}
    with pytest.raises(UserError, match=r"generates no kernels. Accepted: .*idconv, dyconv or d_dwconv"):
        mixer_dynamics(create_model(name, **options).double().eval(), images)

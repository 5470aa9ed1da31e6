"""Focal-T, against the authors' code."""

import pytest
import timm
import torch

from tests.helpers.networks import on_meta
from tests.helpers.peers import check_vectors, checkpoint
from transxnet.models.peers.focal import FocalAttention, cut_windows, join_windows


@pytest.mark.parametrize("size", [pytest.param("224x224", marks=pytest.mark.long), "224x288"])
def test_outputs_match_the_authors_code(size):
    check_vectors("focal_tiny", size)


def test_windows_are_cut_row_by_row_and_joined():
    x = torch.arange(2 * 4 * 6).view(2, 4, 6, 1)
    windows = cut_windows(x, 2)
    assert windows.shape == (2, 6, 4, 1)
    assert windows[0, 1].flatten().tolist() == [2, 3, 8, 9]
    assert torch.equal(join_windows(windows, (4, 6)), x)


def test_surrounding_keys_are_the_33_positions_of_each_roll():
    attention = FocalAttention(8, 2, window=7, focal_window=3, surroundings=True)
    index = attention.surrounding_index
    assert [(index // 49 == i).sum().item() for i in range(4)] == [33] * 4
    # Where each position comes from, on one window in the middle of a map of 3 x 3 windows.
    rows, columns = torch.meshgrid(torch.arange(21), torch.arange(21), indexing="ij")
    positions = torch.stack([rows, columns], dim=2)[None]
    rolled = [cut_windows(positions.roll(by, (1, 2)), 7)[0, 4] for by in attention._rolls()]
    found = torch.cat(rolled)[index]
    inside = ((found >= 7) & (found < 14)).all(dim=1)
    assert not inside.any()
    assert found.min() == 4
    assert found.max() == 16
    assert len(found.unique(dim=0)) == 132 - 12, "twelve positions appear twice"


@torch.no_grad()
def test_a_window_sees_pooled_windows_inside_the_map_only():
    attention = FocalAttention(8, 2, window=2, focal_window=3, surroundings=False).double()
    inside = attention._inside(torch.zeros(1, 3, 4, 8))
    assert inside.shape == (1, 12, 9)
    assert inside[0, 0].tolist() == [0, 0, 0, 0, 1, 1, 0, 1, 1]
    assert inside[0, 5].tolist() == [1] * 9


def test_img_size_decides_which_stages_have_surrounding_keys():
    def surroundings(**kwargs) -> list[bool]:
        model = on_meta("focal_tiny", **kwargs)
        blocks = [layer["blocks"][0].attn for layer in model.layers]
        return [block.relative_position_bias_table_to_neighbors is not None for block in blocks]

    assert surroundings() == surroundings(img_size=(224, 288)) == [True, True, True, False]
    assert surroundings(img_size=384) == [True] * 4
    small = on_meta("focal_tiny", img_size=64)
    assert [layer["blocks"][0].window for layer in small.layers] == [7, 7, 4, 2]


@torch.no_grad()
def test_index_buffers_of_published_checkpoints_are_dropped():
    state = dict(checkpoint("focal_tiny"))
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    state["layers.0.blocks.0.attn.relative_position_index_0"] = torch.zeros(49, 49, dtype=torch.int64)
    state["layers.0.blocks.0.attn.valid_ind_rolled"] = torch.zeros(132, dtype=torch.int64)
    timm.create_model("focal_tiny", pretrained=True, pretrained_cfg_overlay=dict(state_dict=state))


def test_even_focal_windows_are_refused():
    with pytest.raises(ValueError, match=r"focal_windows\[1\] must be odd, got 4"):
        timm.create_model("focal_tiny", focal_windows=(7, 4, 3, 1))

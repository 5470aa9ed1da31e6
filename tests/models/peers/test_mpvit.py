"""MPViT-XS, against the authors' code; S and B, against the published costs."""

import pytest
import torch

from tests.helpers.networks import on_meta
from tests.helpers.peers import check_vectors, checkpoint, filled, stored
from transxnet import create_model
from transxnet.analysis.cost import count


@pytest.mark.parametrize("size", [pytest.param("224x224", marks=pytest.mark.long), "200x168"])
def test_outputs_match_the_authors_code(size):
    check_vectors("mpvit_xsmall", size)


@torch.no_grad()
def test_checkpoint_with_copies_of_shared_tensors_loads():
    """The authors' layers share position encodings, so their checkpoints have them under 322 further names."""
    tensors, aliases = checkpoint("mpvit_xsmall"), stored("mpvit_xsmall", "aliases")
    assert len(aliases) == 322
    state = tensors | {alias: tensors[name] for alias, name in aliases.items()}
    model = create_model("mpvit_xsmall", pretrained=True, pretrained_cfg_overlay=dict(state_dict=state))
    truth = filled("mpvit_xsmall").float()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), truth.parameters(), strict=True))


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "parameters", "macs"), [("mpvit_small", 22.8e6, 4.7e9), ("mpvit_base", 74.8e6, 16.4e9)]
)
def test_larger_variants_cost_as_published(name, parameters, macs):
    cost = count(on_meta(name), 224, 224)
    assert cost.parameters == pytest.approx(parameters, rel=0.005)
    assert cost.multiply_adds + cost.attention_multiply_adds == pytest.approx(macs, rel=0.02)


@torch.no_grad()
def test_odd_sides_round_up():
    maps = create_model("mpvit_xsmall").eval().forward_intermediates(torch.randn(1, 3, 33, 50), intermediates_only=True)
    assert [tuple(feature.shape[2:]) for feature in maps] == [(9, 13), (5, 7), (3, 4), (2, 2)]

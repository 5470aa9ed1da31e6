"""QuadTree-B-b1, against the authors' code."""

import pytest
import timm
import torch

from tests.helpers.peers import check_vectors
from transxnet import UserError
from transxnet.analysis.cost import info
from transxnet.models.peers.quadtree import QuadTreeLevels


@pytest.mark.parametrize("size", [pytest.param("224x224", marks=pytest.mark.long), "160x192"])
def test_outputs_match_the_authors_code(size):
    check_vectors("quadtree_b1", size)


@torch.no_grad()
def test_finer_levels_attend_to_children_of_picked_keys(randomize):
    """Two levels, position by position, as the paper describes them."""
    attention = randomize(QuadTreeLevels(6, num_heads=2, levels=2, topk=3)).double()
    sizes = [(4, 6), (2, 3)]
    q, k, v = ([torch.randn(1, 6, *size, dtype=torch.float64) for size in sizes] for _ in range(3))
    fine, coarse = torch.zeros_like(q[0]), torch.zeros_like(q[1])
    for head in (slice(0, 3), slice(3, 6)):
        for r in range(2):
            for c in range(3):
                logits = torch.einsum("d,dhw->hw", q[1][0, head, r, c], k[1][0, head]) * 3**-0.5
                weights = logits.flatten().softmax(0)
                coarse[0, head, r, c] = v[1][0, head].flatten(1) @ weights
                picked = [(int(i) // 3, int(i) % 3) for i in weights.topk(3).indices]
                children = [(2 * y + dy, 2 * x + dx) for y, x in picked for dy in (0, 1) for dx in (0, 1)]
                rows, columns = (list(part) for part in zip(*children, strict=True))
                for dy, dx in [(0, 0), (0, 1), (1, 0), (1, 1)]:
                    query = q[0][0, head, 2 * r + dy, 2 * c + dx]
                    weights = (query @ k[0][0, head][:, rows, columns] * 3**-0.5).softmax(0)
                    fine[0, head, 2 * r + dy, 2 * c + dx] = v[0][0, head][:, rows, columns] @ weights
    share = attention.weight.softmax(0)
    coarse = (coarse + attention.get_vs[0](v[1])).repeat_interleave(2, 2).repeat_interleave(2, 3)
    truth = share[0] * coarse + share[1] * (fine + attention.get_vs[1](v[0]))
    torch.testing.assert_close(attention(q, k, v), truth, rtol=0, atol=1e-12)


def test_families_are_grouped_row_by_row_and_joined():
    attention = QuadTreeLevels(4, num_heads=2, levels=1, topk=8)
    x = torch.arange(2 * 4 * 4 * 6).view(2, 4, 4, 6)
    families = attention._families(x)
    assert families.shape == (2, 2, 6, 4, 2)
    assert families[0, 0, 1, :, 0].tolist() == [2, 3, 8, 9]
    assert torch.equal(attention._join(families, 4, 6), x)


@torch.no_grad()
def test_sizes_that_are_not_divisible_are_refused():
    with pytest.raises(ValueError, match=r"height=50 must be divisible by .*=32; nearest accepted: 32 or 64"):
        timm.create_model("quadtree_b1")(torch.randn(1, 3, 50, 64))
    with pytest.raises(UserError, match=r"quadtree_b1 does not support images of 230x230: height=230 .* 224 or 256"):
        info("quadtree_b1", 230)

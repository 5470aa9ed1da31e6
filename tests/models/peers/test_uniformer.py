"""UniFormer-S, against the authors' code."""

import pytest

from tests.helpers.networks import on_meta
from tests.helpers.peers import check_vectors
from transxnet.models.peers.uniformer import GlobalBlock, LocalBlock


@pytest.mark.parametrize("size", [pytest.param("224x224", marks=pytest.mark.long), "192x256"])
def test_outputs_match_the_authors_code(size):
    check_vectors("uniformer_small", size)


def test_convolution_blocks_precede_attention_blocks():
    model = on_meta("uniformer_small")
    for i, (kind, depth) in enumerate([(LocalBlock, 3), (LocalBlock, 4), (GlobalBlock, 8), (GlobalBlock, 3)], 1):
        assert [type(block) for block in getattr(model, f"blocks{i}")] == [kind] * depth
    assert [model.blocks3[0].attn.num_heads, model.blocks4[0].attn.num_heads] == [5, 8]

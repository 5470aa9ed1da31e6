import pytest
import torch

from transxnet.ablation.paper_tables import TABLES, Ablation, Variant
from transxnet.models.create import create_model
from transxnet.models.model_spec import with_options


@pytest.mark.parametrize("name", TABLES)
def test_rows_of_the_tables_are_different_models(name):
    found = TABLES[name]
    costs = set()
    for variant in found.variants:
        with torch.device("meta"):
            model = create_model(with_options(found.model, variant.options))
        costs.add(sum(p.numel() for p in model.parameters()))
    assert len(costs) == len(found.variants)
    if found.model == "transxnet_t":
        assert 12_834_808 in costs  # the paper's final model is one of the rows


def test_new_rows_are_options_of_the_model():
    chosen = TABLES["table9"].choose(["0.5", "attn_ratio=(0.25,0.25,0.5,0.75)+dpe=false"])
    own = chosen.variants[1]
    assert own == Variant(
        "attn_ratio=0.25,0.25,0.5,0.75-dpe=false",
        "attn_ratio=(0.25,0.25,0.5,0.75), dpe=false",
        "attn_ratio=(0.25,0.25,0.5,0.75),dpe=false",
    )
    mine = Ablation("mine", "Mine", "transxnet_n", (Variant("a", "A", "dpe=false"),))
    assert mine.choose(None) == mine

"""Operators of a profile."""

import torch

from transxnet.benchmark.operator_profile import longest_operators


def test_profile_of_a_benchmark_lists_operators(result):
    tiny = result.rows[0].operators
    assert "aten::addmm" in {operator.name for operator in tiny}
    assert [operator.share for operator in tiny] == sorted((operator.share for operator in tiny), reverse=True)
    assert 0.5 < sum(operator.share for operator in tiny) <= 1 + 1e-9
    assert len(tiny) <= 12
    assert next(operator for operator in tiny if operator.name == "aten::addmm").calls == 1


def test_slowest_operator_comes_first():
    a, b, x = torch.randn(300, 300), torch.randn(300, 300), torch.randn(3)

    def step() -> None:
        for _ in range(2):
            a @ b
        x.sin()

    operators = {operator.name: operator for operator in longest_operators(step, "cpu")}
    assert next(iter(operators)) == "aten::mm"
    assert operators["aten::mm"].calls == 2
    assert operators["aten::sin"].calls == 1
    assert operators["aten::mm"].milliseconds > operators["aten::sin"].milliseconds > 0

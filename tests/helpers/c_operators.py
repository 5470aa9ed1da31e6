"""Checks of the operators with C kernels: in compiled programs, and with several threads."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def compiled_operators(function: Callable, *arguments: Any) -> tuple[Any, str]:
    """Return the result of a compiled function, and the names of the operators in its graph."""
    torch.compiler.reset()
    seen: list[str] = []

    def backend(graph, inputs):
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    return torch.compile(function, backend=backend, fullgraph=True)(*arguments), " ".join(seen)


def assert_independent_of_threads(function: Callable[[], Sequence[Tensor]]) -> None:
    """Fail unless the results are the same, bit by bit, with one, two and three threads."""
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(function())
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(results[0], others, strict=True))

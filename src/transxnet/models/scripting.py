"""Networks for torch.jit.script, which cannot compile their Python code itself."""

from typing import Any, cast

import torch
from torch import nn


class ScriptedByTracing:
    """Mix-in: ``torch.jit.script`` compiles the operators that torch.fx records in the current mode, train or eval.

    The program contains the operators of PyTorch that define our own ones, for inputs of any size.
    """

    def __prepare_scriptable__(self) -> nn.Module:
        graph: Any = torch.fx.symbolic_trace(cast(nn.Module, self))
        return graph

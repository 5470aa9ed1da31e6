"""Rewrite traced programs for ExecuTorch, so that XNNPACK computes nearly all operators.

XNNPACK supports some operators, with constant kernels and fixed sizes. ExecuTorch computes the others much more slowly.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram, export
from torch.fx import GraphModule, Node, map_arg
from torch.fx.experimental.proxy_tensor import make_fx

from transxnet.ops.attention import biased_attention_composed
from transxnet.ops.dynamic_conv import dynamic_depthwise_conv2d_export

_aten = torch.ops.aten


def rewrite(program: ExportedProgram) -> ExportedProgram:
    """Replace operators that XNNPACK does not support.

    Operations on weights, such as splitting them, are computed. Attention becomes two products and a softmax, since
    PyTorch's decomposition also searches for rows without keys. Dynamic depthwise convolutions become matrix products.
    """
    module = program.module(check_guards=False)
    fold_constants(module)
    for node in list(module.graph.nodes):
        inputs = [each for each in (*node.args, *node.kwargs.values()) if each is not None]
        if node.target is _aten.scaled_dot_product_attention.default and _has_bias_only(node):
            _replace(module, node, inputs, biased_attention_composed)
        elif node.target is _aten.conv2d.default and _is_dynamic_depthwise(node):
            _replace(module, node, inputs[:3], _as_products)
        elif node.target is _aten.group_norm.default and node.args[1] == 1:
            eps = node.args[4] if len(node.args) > 4 else 1e-5
            weights = [each for each in node.args[2:4] if each is not None]
            _replace(module, node, [node.args[0], *weights], partial(_normalized, eps=eps))
    module.graph.eliminate_dead_code()
    module.recompile()
    return export(module, program.example_inputs[0], strict=False)


def fold_constants(module: GraphModule) -> None:
    """Compute all operators whose inputs are weights, in place.

    The results are copies: ExecuTorch stores parts of a split tensor as if each began where the tensor does.
    """
    values: dict[Node, Any] = {}
    for node in list(module.graph.nodes):
        if node.op == "get_attr":
            values[node] = _attribute(module, node.target)
        elif node.op == "call_function" and node.all_input_nodes and all(x in values for x in node.all_input_nodes):
            args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)
            if isinstance(values[node], Tensor):
                name = f"folded_{node.name}"
                module.register_buffer(name, values[node].detach().clone(memory_format=torch.contiguous_format))
                with module.graph.inserting_before(node):
                    constant = module.graph.get_attr(name)
                constant.meta["val"] = node.meta.get("val")
                node.replace_all_uses_with(constant)
                values[constant] = values[node]
    module.graph.eliminate_dead_code()


def _attribute(module: Any, name: Any) -> Any:
    for part in name.split("."):
        module = getattr(module, part)
    return module


def _has_bias_only(node: Node) -> bool:
    """Whether this attention has no options other than a bias, which is not a mask of booleans."""
    biases: list[Any] = [*node.args[3:], *node.kwargs.values()]
    plain = len(node.args) <= 4 and not set(node.kwargs) - {"attn_mask"}
    return plain and all(each is None or each.meta["val"].is_floating_point() for each in biases)


def _is_dynamic_depthwise(node: Node) -> bool:
    """Whether this is ``ops.dynamic_conv.dynamic_depthwise_conv2d_reference`` for one image."""
    weight: Any = node.args[1]
    if weight.op == "get_attr" or len(node.args) != 7 or node.args[2] is None:
        return False
    channels, per_group, height, width = weight.meta["val"].shape
    _, _, _, stride, padding, dilation, groups = node.args
    same = height == width and list(padding) == [height // 2] * 2  # type: ignore[arg-type]
    return same and groups == channels and per_group == 1 and {*stride, *dilation} == {1}  # type: ignore[misc]


def _as_products(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same for (1, C, H, W), (C, 1, K, K) and (C,)."""
    return dynamic_depthwise_conv2d_export(x, weight.transpose(0, 1), bias[None])


def _normalized(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float) -> Tensor:
    """GroupNorm of one group. ExecuTorch's own subtracts squares: wrong by 5e-4 if the mean is ten times the spread."""
    centered = x - x.mean((2, 3), keepdim=True).mean(1, keepdim=True)
    variance = (centered * centered).mean((2, 3), keepdim=True).mean(1, keepdim=True)
    x = centered * (variance + eps).rsqrt()
    if weight is not None:
        x = x * weight[:, None, None]
    return x if bias is None else x + bias[:, None, None]


def _replace(module: GraphModule, node: Node, inputs: list[Any], function: Callable[..., Tensor]) -> None:
    """Replace a node by the operators that a function calls."""
    traced = make_fx(function)(*(each.meta["val"] for each in inputs))
    values: dict[Node, Any] = {}
    places = iter(inputs)
    with module.graph.inserting_before(node):
        for each in traced.graph.nodes:
            if each.op == "placeholder":
                values[each] = next(places)
            elif each.op == "output":
                node.replace_all_uses_with(values[each.args[0]])
            else:
                values[each] = module.graph.node_copy(each, values.__getitem__)
    module.graph.erase_node(node)

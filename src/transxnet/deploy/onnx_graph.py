"""What makes an ONNX graph lean where PyTorch's exporter leaves work to the runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def translations(queries_last: bool) -> dict[Any, Any]:
    """Of PyTorch's operators for which the exporter's own translation takes more than it needs.

    Args:
        queries_last: lay attention's scores out as keys x queries.
    """
    return {
        torch.ops.aten.scaled_dot_product_attention.default: attention(
            _keys_by_queries if queries_last else _queries_by_keys
        ),
        torch.ops.aten.group_norm.default: group_norm,
    }


def attention(plain: Callable[[Any, Any, Any, Any, Any], Any]) -> Callable[..., Any]:
    """The translation of ``F.scaled_dot_product_attention``, where it has no more than a bias.

    Args:
        plain: attention of query, key, value, bias or None, and the scale, as two products and a softmax. The scale is
            to go to the keys, which are few; the exporter scales keys and queries, and reshapes the keys twice.
    """

    def translation(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        import onnx_ir
        from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention

        head_dim = query.shape[3]
        masked = attn_mask is not None and attn_mask.dtype == onnx_ir.DataType.BOOL
        if is_causal or enable_gqa or masked or dropout_p or not isinstance(head_dim, int):
            return aten_scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa
            )
        factor = _opset().CastLike(head_dim**-0.5 if scale is None else scale, query)
        return plain(query, key, value, attn_mask, factor)

    return translation


def _queries_by_keys(query: Any, key: Any, value: Any, bias: Any, factor: Any) -> Any:
    """Scores of queries x keys (B, h, N, M)."""
    op = _opset()
    scores = op.MatMul(query, op.Mul(op.Transpose(key, perm=_SWAPPED), factor))
    if bias is not None:
        scores = op.Add(scores, bias)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _keys_by_queries(query: Any, key: Any, value: Any, bias: Any, factor: Any) -> Any:
    """Scores of keys x queries (B, h, M, N), of which the softmax goes over the keys.

    OSRA's queries are a map's channels x positions, and so is its result: here neither is transposed. And the last
    axis is what a runtime computes in vectors: its length should be that of the many queries and not of the 49 keys.
    Where the keys have a bias and are odd in number, one of zeros whose bias is minus infinity makes them even: units
    for products in bfloat16 take pairs. Together 11% of T's time in bfloat16, 3% in float32 (batch 16, an Intel Xeon).
    """
    op = _opset()
    count = key.shape[2]
    odd = isinstance(count, int) and count % 2 == 1 and bias is not None and bias.shape[3] == count
    if bias is not None:
        bias = op.Transpose(bias, perm=_SWAPPED)
    if odd:
        one_more, axis = op.Constant(value_ints=[0, 1]), op.Constant(value_ints=[2])
        key, value = (op.Pad(x, one_more, None, axis) for x in (key, value))
        bias = op.Pad(bias, one_more, op.CastLike(float("-inf"), bias), axis)
    scores = op.MatMul(op.Mul(key, factor), op.Transpose(query, perm=_SWAPPED))
    if bias is not None:
        scores = op.Add(scores, bias)
    out = op.MatMul(op.Transpose(value, perm=_SWAPPED), op.Softmax(scores, axis=-2))
    return op.Transpose(out, perm=_SWAPPED)


_SWAPPED = [0, 1, 3, 2]


def _opset() -> Any:
    from onnxscript import opset20

    return opset20  # as Any, since its hints know no Python numbers


def group_norm(
    input: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Any:
    """``F.group_norm`` of which a weight and a bias that are not there cost nothing.

    The exporter multiplies by ones and adds zeros in their place, two passes over all of the features.
    """
    op = _opset()
    ones, zeros = (op.CastLike(op.Constant(value_floats=[value] * num_groups), input) for value in (1.0, 0.0))
    groups = op.Reshape(input, op.Constant(value_ints=[0, num_groups, -1]))
    x = op.Reshape(op.InstanceNormalization(groups, ones, zeros, epsilon=eps), op.Shape(input))
    per_channel = op.Constant(value_ints=[-1] + [1] * (len(input.shape) - 2))
    if weight is not None:
        x = op.Mul(x, op.Reshape(weight, per_channel))
    return x if bias is None else op.Add(x, op.Reshape(bias, per_channel))


def tidy(model: Any) -> None:
    """Take out what is computed of constants alone, what nobody uses, and where in whose files it comes from.

    Args:
        model: an ``onnx_ir.Model``, changed in place.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass

    _fold_splits(model)
    RemoveUnusedNodesPass()(model)
    ClearMetadataAndDocStringPass()(model)


def _fold_splits(model: Any) -> None:
    """Split weights here, which the exporter leaves to be split in every pass, and nothing into one part."""
    import onnx_ir

    for node in list(model.graph):
        if node.op_type != "Split":
            continue
        if len(node.outputs) == 1 and not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(node.inputs[0])
            continue
        if node.inputs[0].const_value is None:
            continue
        if len(node.inputs) < 2 or node.inputs[1] is None or node.inputs[1].const_value is None:
            continue
        whole = node.inputs[0].const_value.numpy()
        sizes = node.inputs[1].const_value.numpy()
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        parts = np.split(whole, np.cumsum(sizes)[:-1], axis=axis)
        for number, (output, part) in enumerate(zip(node.outputs, parts, strict=True)):
            constant = onnx_ir.Value(
                name=f"{node.inputs[0].name}.{output.name or number}",
                type=output.type or node.inputs[0].type,
                shape=onnx_ir.Shape(part.shape),
                const_value=onnx_ir.tensor(np.ascontiguousarray(part)),
            )
            model.graph.register_initializer(constant)
            output.replace_all_uses_with(constant)
        model.graph.remove(node, safe=True)

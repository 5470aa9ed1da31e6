"""What makes an ONNX graph lean where PyTorch's exporter leaves work to the runtime."""

from typing import Any

import numpy as np
import torch


def translations() -> dict[Any, Any]:
    """Of PyTorch's operators for which the exporter's own translation takes more than it needs."""
    return {
        torch.ops.aten.scaled_dot_product_attention.default: attention,
        torch.ops.aten.group_norm.default: group_norm,
    }


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """``F.scaled_dot_product_attention`` with a bias as two products and a softmax.

    The scale goes to the keys, which are few; the exporter scales keys and queries, and reshapes the keys twice.
    """
    import onnx_ir
    from onnxscript import opset20
    from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention

    op: Any = opset20  # its hints know no Python numbers
    masked = attn_mask is not None and attn_mask.dtype == onnx_ir.DataType.BOOL
    head_dim = query.shape[3]
    if is_causal or enable_gqa or masked or dropout_p or not isinstance(head_dim, int):
        return aten_scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    factor = op.CastLike(head_dim**-0.5 if scale is None else scale, query)
    scores = op.MatMul(query, op.Mul(op.Transpose(key, perm=[0, 1, 3, 2]), factor))
    if attn_mask is not None:
        scores = op.Add(scores, attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


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
    from onnxscript import opset20

    op: Any = opset20
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

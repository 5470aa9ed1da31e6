"""Optimize OpenVINO graphs where its converter leaves work to the runtime."""

from typing import Any

_AXES = [1, 2, 3]
_ELEMENTWISE = {"Add", "Multiply"}
_SPLITS = {"Split", "VariadicSplit"}


def normalize_in_layout(model: Any) -> int:
    """Normalize maps in their memory layout, where a GroupNorm with one group precedes a convolution.

    ONNX has no norm over (channels, height, width) with a free epsilon except that of a flattened map. Flattening makes
    the runtime, whose convolutions are channels-last, rearrange the map before and after the norm. Before a split of
    the channels the flattened form is kept, since a split is slow in channels-last.

    Args:
        model: an ``openvino.Model``, changed in place.

    Returns:
        The number of norms changed.
    """
    from openvino import opset13

    changed = 0
    for norm in model.get_ordered_ops():
        if norm.get_type_name() != "MVN" or norm.input_value(0).get_node().get_type_name() != "Reshape":
            continue
        flat, maps = norm.input_value(0), norm.input_value(0).get_node().input_value(0)
        back = _consumers(norm)
        if not (
            maps.get_partial_shape().rank == 4
            and flat.get_partial_shape().rank == 3
            and flat.get_partial_shape()[1] == 1
            and norm.input_value(1).get_node().data.tolist() in (2, [2], [-1])
            and [node.get_type_name() for node in back] == ["Reshape"]
            and back[0].get_output_partial_shape(0) == maps.get_partial_shape()
        ) or _ends_in_split(back[0]):
            continue
        how = norm.get_attributes()
        whole = opset13.mvn(maps, opset13.constant(_AXES), how["normalize_variance"], how["eps"], how["eps_mode"])
        for target in back[0].output(0).get_target_inputs():
            target.replace_source_output(whole.output(0))
        changed += 1
    return changed


def _consumers(node: Any) -> list[Any]:
    return [target.get_node() for target in node.output(0).get_target_inputs()]


def _ends_in_split(node: Any) -> bool:
    """Whether a node's output is split, directly or after a scale and a shift."""
    while len(after := _consumers(node)) == 1 and after[0].get_type_name() in _ELEMENTWISE:
        node = after[0]
    return any(each.get_type_name() in _SPLITS for each in after)

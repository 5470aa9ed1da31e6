"""The section ``model_info`` of OpenVINO models, with which Intel's Model API opens them.

Source:
    https://github.com/open-edge-platform/model_api, guide "Model configuration".
"""

from transxnet.deploy.metadata import Metadata


def model_info(metadata: Metadata) -> dict[str, str]:
    """Return the values of the section; empty for other models than classifiers of RGB images into classes with
    float32 input.

    Lists are separated by spaces, so that spaces in class names become underscores. Model API takes images as OpenCV
    decodes them, in BGR, and has no ``crop_pct``: it resizes the largest centered crop. It does not reverse the
    channels of uint8 (N, H, W, 3).
    """
    classifies = metadata.task == "classify" and metadata.decoded_targets.kind == "classes"
    if not classifies or metadata.input != "float32" or metadata.channels is not None:
        return {}
    return {
        "model_type": "Classification",
        "labels": " ".join(name.replace(" ", "_") for name in metadata.class_names),
        "resize_type": "crop",
        "reverse_input_channels": "True",
        "mean_values": " ".join(f"{255 * value:.6g}" for value in metadata.mean),
        "scale_values": " ".join(f"{255 * value:.6g}" for value in metadata.std),
    }

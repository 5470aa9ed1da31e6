"""The networks, and the way published weights come into them."""

from transxnet.models.checkpoints import convert_official_state_dict
from transxnet.models.transxnet import TransXNet, TransXNetFeatures

__all__ = ["TransXNet", "TransXNetFeatures", "convert_official_state_dict"]

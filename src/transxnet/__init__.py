"""TransXNet, the vision backbone with a dual dynamic token mixer. Importing registers the models with timm."""

from transxnet.models import TransXNet, TransXNetFeatures, convert_official_state_dict
from transxnet.version import __version__

__all__ = ["TransXNet", "TransXNetFeatures", "__version__", "convert_official_state_dict"]

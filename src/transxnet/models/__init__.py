"""The networks, and the loading of published weights."""

from transxnet.models import peers
from transxnet.models.checkpoints import convert_official_state_dict
from transxnet.models.swin_style import SwinStyle, SwinStyleFeatures
from transxnet.models.transxnet import TransXNet, TransXNetFeatures

__all__ = ["SwinStyle", "SwinStyleFeatures", "TransXNet", "TransXNetFeatures", "convert_official_state_dict", "peers"]

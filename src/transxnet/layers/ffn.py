"""The plain feed-forward network (Fig. 5a, Tables VI and VIII)."""

from torch import Tensor, nn

from transxnet.layers.checks import check_positive


class FFN(nn.Module):
    """Two linear layers with a GELU between them, applied to each position (Fig. 5a).

    The paper calls it ViT's vanilla FFN, so it has ViT's biases, and none of MS-FFN's BatchNorms.

    Args:
        dim: channels C.
        expansion: E; the hidden layer has E C channels.

    Shapes:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: a size that is not positive.
    """

    def __init__(self, dim: int, expansion: int = 4):
        super().__init__()
        check_positive(dim=dim, expansion=expansion)
        self.expand = nn.Conv2d(dim, dim * expansion, 1)
        self.act = nn.GELU()
        self.project = nn.Conv2d(dim * expansion, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.act(self.expand(x)))

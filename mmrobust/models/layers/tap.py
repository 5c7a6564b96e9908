"""Token-aware average pooling (TAP), and the other local aggregations of the paper's Table 1."""
import torch.nn.functional as F
from torch import Tensor, nn

from mmrobust.ops import token_aware_avg_pool

MODES = ('dilated', 'multi_kernel', 'avg_pool', 'conv')


class TokenAwareAvgPooling(nn.Module):
    """Mixes average-pooled copies of a token map with weights that each token predicts itself.

    ``out = sum_k m_k * P_k(x)``, where ``P_0`` is the identity, ``P_k`` a 3x3 mean of dilation k
    over the zero-padded map, and ``m = softmax_k(conv(BN(conv(x))))`` is shared by all channels.
    From "Robustifying Token Attention for Vision Transformers" (ICCV 2023), section 3.2.

    Args:
        dim (int): Number of channels C.
        num_branches (int): Number K of pooled copies, the identity included. Defaults to 4.
        mode (str): ``'dilated'`` is TAP. The alternatives of the paper's Table 1:
            ``'multi_kernel'`` grows the window instead of the dilation (branch k is a mean over
            (2k + 1) x (2k + 1) tokens); ``'avg_pool'`` and ``'conv'`` are a single average
            pooling or full convolution and predict no weights. Defaults to ``'dilated'``.
        kernel_size (int): Window of ``'avg_pool'`` and ``'conv'``, odd. Defaults to 3.

    Raises:
        ValueError: On an unknown mode, fewer than one branch, or an even kernel size.
    """

    def __init__(self, dim: int, num_branches: int = 4, mode: str = 'dilated',
                 kernel_size: int = 3):
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"unknown TAP mode '{mode}': choose one of {', '.join(MODES)}")
        if not isinstance(num_branches, int):
            raise ValueError(f'num_branches={num_branches!r} is not a whole number: the paper '
                             'uses 4')
        if num_branches < 1:
            raise ValueError(f'num_branches={num_branches}: TAP needs at least 1 branch, '
                             'the identity; the paper uses 4')
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'kernel_size={kernel_size}: choose an odd number such as 3 or 5')
        self.mode = mode
        self.num_branches = num_branches
        self.kernel_size = kernel_size
        if mode == 'conv':
            self.conv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, bias=False)
        elif mode in ('dilated', 'multi_kernel'):
            self.predictor = nn.Sequential(
                nn.Conv2d(dim, num_branches, 3, padding=1, bias=False),
                nn.BatchNorm2d(num_branches),
                nn.Conv2d(num_branches, num_branches, 3, padding=1, bias=False))

    def branch_weights(self, x: Tensor) -> Tensor:
        """The weights (B, K, H, W) that each token of (B, C, H, W) gives to the branches."""
        return self.predictor(x).softmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W), for any H and W."""
        if self.mode == 'conv':
            return self.conv(x)
        if self.mode == 'avg_pool':
            return _mean(x, self.kernel_size)
        weights = self.branch_weights(x)
        if self.mode == 'dilated':
            return token_aware_avg_pool(x, weights)
        return sum(weights[:, k:k + 1] * _mean(x, 2 * k + 1) for k in range(self.num_branches))

    def extra_repr(self) -> str:
        return f'num_branches={self.num_branches}, mode={self.mode}'


def _mean(x: Tensor, kernel_size: int) -> Tensor:
    """Zero-padded mean that always divides by the whole window."""
    return F.avg_pool2d(x, kernel_size, stride=1, padding=kernel_size // 2)

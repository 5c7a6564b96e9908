from .alignment import *  # noqa: F401, F403
from .backbones import *  # noqa: F401, F403
from .layers import *  # noqa: F401, F403
from .losses import *  # noqa: F401, F403
from .robust_model import RobustModel

__all__ = ['RobustModel']

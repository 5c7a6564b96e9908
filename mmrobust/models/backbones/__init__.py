from .fan import FAN
from .rvt import RVT

__all__ = ['FAN', 'RVT']

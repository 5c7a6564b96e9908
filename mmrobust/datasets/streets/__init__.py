"""A renderer of stylised street scenes with exact Cityscapes labels: NumPy and OpenCV only."""
from .scene import SPLITS, draw_scene

__all__ = ['SPLITS', 'draw_scene']

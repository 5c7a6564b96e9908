from .config import load_config
from .launch import test, train

__all__ = ['load_config', 'test', 'train']

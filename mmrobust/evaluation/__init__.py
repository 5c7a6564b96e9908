"""Robustness benchmarks of any MM model."""
from .benchmark import apply_benchmark
from .protocols import PROTOCOLS, Cell, Protocol, get_protocol, register_protocol

__all__ = ['PROTOCOLS', 'Cell', 'Protocol', 'apply_benchmark', 'get_protocol',
           'register_protocol']

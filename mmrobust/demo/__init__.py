"""Drawn street scenes with exact Cityscapes labels, for the demo; nothing else stands on them."""

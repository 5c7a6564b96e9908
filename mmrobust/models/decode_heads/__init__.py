"""Decode heads that MMSegmentation lacks; each module needs MMSegmentation."""

#!/usr/bin/env python
"""The command ``mmrobust confidence``."""
import sys

from mmrobust.cli import run_tool

if __name__ == '__main__':
    sys.exit(run_tool('confidence'))

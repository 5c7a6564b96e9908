#!/usr/bin/env python
"""The command ``mmrobust corrupt``."""
import sys

from mmrobust.cli import run_tool

if __name__ == '__main__':
    sys.exit(run_tool('corrupt'))

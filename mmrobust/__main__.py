"""``python -m mmrobust``: the command ``mmrobust``."""
import sys

from mmrobust.cli import main

if __name__ == '__main__':
    sys.exit(main())

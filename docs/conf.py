"""Sphinx settings; `make docs` builds the site with warnings as errors."""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmrobust.version import __version__  # noqa: E402

project = 'mmrobust'
release = __version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
myst_heading_anchors = 3
myst_enable_extensions = ['dollarmath']
html_theme = 'furo'
html_title = f'mmrobust {release}'
autodoc_typehints = 'none'  # the docstrings have them
autodoc_member_order = 'bysource'
exclude_patterns = ['_build']
# commands in these pages are of a shell and of many tools; nothing to colour is no mistake
highlight_language = 'none'

#!/usr/bin/env python
"""Check that links within the documentation lead to files that exist."""
import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LINK = re.compile(r'\]\(([^)#\s]+)[^)]*\)')


def main() -> int:
    broken = [f'{page.relative_to(REPOSITORY)}: {target}'
              for page in [*REPOSITORY.glob('*.md'), *REPOSITORY.glob('docs/**/*.md')]
              for target in LINK.findall(page.read_text('utf-8'))
              if '://' not in target and not (page.parent / target).exists()]
    print('\n'.join(broken) or 'all links lead somewhere')
    return int(bool(broken))


if __name__ == '__main__':
    sys.exit(main())

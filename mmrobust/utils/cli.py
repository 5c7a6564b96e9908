"""How our command-line tools end."""
import os
import sys
from collections.abc import Callable

# mistakes of input, explained by their message; anything else is a defect and keeps its traceback
EXPECTED = (FileNotFoundError, ImportError, KeyError, NotADirectoryError, ValueError)


def run(main: Callable[[], None]) -> int:
    """Run a tool: a mistake of input prints one sentence, an interruption ends quietly.

    Set ``MMROBUST_TRACEBACK=1`` to see where a mistake was noticed.

    Returns:
        int: Exit status: 0, 1 on a mistake, 130 if interrupted.
    """
    try:
        main()
    except EXPECTED as error:
        if os.environ.get('MMROBUST_TRACEBACK'):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f'{type(error).__name__}: {message}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    return 0

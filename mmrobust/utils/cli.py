"""How our command-line tools end."""
import os
import re
import sys
from collections.abc import Callable

# mistakes of input, explained by their message; anything else is a defect and keeps its traceback
EXPECTED = (ImportError, KeyError, OSError, ValueError)

# a key of a config that the class built from it does not take, or lacks
WRONG_KEY = re.compile(r"(\w+)\.__init__\(\) (?:got an unexpected keyword argument '(\w+)'|"
                       r"missing \d+ required .*arguments?: (.*))")


def run(main: Callable[[], None]) -> int:
    """Run a tool: a mistake of input prints one sentence, an interruption ends quietly.

    Set ``MMROBUST_TRACEBACK=1`` to see where a mistake was noticed.

    Returns:
        int: Exit status: 0, 1 on a mistake, 130 if interrupted.
    """
    try:
        main()
    except (*EXPECTED, TypeError) as error:
        message = _message(error)
        if message is None or os.environ.get('MMROBUST_TRACEBACK'):
            raise
        print(f'{type(error).__name__}: {message}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    return 0


def _message(error: Exception) -> str | None:
    """What to say of a mistake; nothing if it is a defect."""
    if not isinstance(error, TypeError):
        return error.args[0] if isinstance(error, KeyError) and error.args else str(error)
    if match := WRONG_KEY.search(str(error)):
        name, unknown, missing = match.groups()
        problem = f"takes no '{unknown}'" if unknown else f'needs {missing}'
        return f'{name} {problem}: correct the config, or --cfg-options'
    return None

"""How our command-line tools end.

Exit statuses: 0 fine; 1 a mistake of input, said in one sentence; 2 wrong usage (argparse);
70 a defect of ours, with its traceback; 130 interrupted; 141 nobody reads the output any more.
A run that was asked to stop and has saved ends with 0, or with MMROBUST_STOP_STATUS: the same
command continues it.
"""
import gc
import logging
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from .mistakes import InputError, explain, is_stated, sentence, traceback_to_screen
from .processes import Stopped

FINE, MISTAKE, USAGE, DEFECT, INTERRUPTED, UNREAD = 0, 1, 2, 70, 130, 141
# what a process sees when another one of the same run has failed
LOST_PEER = ('closed by peer', 'reset by peer', 'Connection refused', 'gloo', 'NCCL',
             'DistStoreError', 'TCPStore', 'Broken pipe')
# seconds in which a launcher ends the other processes, once one has failed
PATIENCE = 6


def run(main: Callable[[], None]) -> int:
    """Run a tool: a mistake of input prints one sentence, an interruption ends quietly.

    ``--debug`` on the command line of any tool, or ``MMROBUST_TRACEBACK=1``, shows the traceback
    of a mistake on the screen. Otherwise that of an unforeseen one goes to the log file.

    Returns:
        int: Exit status, see the module.
    """
    debug = traceback_to_screen()
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != '--debug']
    # a reader of the output that goes away is no reason to print tracebacks, or to stop working
    logging.raiseExceptions = debug
    try:
        main()
        _flush()
    except Stopped as stop:
        _leave_processes()
        return stop.status
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return INTERRUPTED
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if not isinstance(error, Exception):  # neither we nor the libraries raise such
            odd, error = error, InputError(
                f'{explain(error)}: correct the code that the config brings along')
            error.__cause__ = odd
        if isinstance(error, OSError) and _output_is_lost():
            _drop_output()
            if isinstance(error, BrokenPipeError):
                return UNREAD
        return _end(error, debug)
    _leave_processes()
    return FINE


def _leave_processes() -> None:
    """End what the processes of a run have in common, where all of them come to their ends.

    Its threads would wait for an interpreter that is gone, and now and then abort the process:
    finished work with the exit status of a crash. One that fails alone must not wait for others.
    """
    distributed = sys.modules.get('torch.distributed')
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()  # wrapped models of the run hold it too, in circles


def _end(error: BaseException, debug: bool) -> int:
    """Say what went wrong, once for all processes of a run."""
    said = sentence(error)
    _let_another_speak(error)
    if said is None:
        traceback.print_exception(error)
        print('This is a defect of mmrobust, not of your input: please report it with the lines '
              'above.', file=sys.stderr)
        return DEFECT
    if debug:
        traceback.print_exception(error)
    elif not _is_foreseen(error):
        said += _log(error)
    print(said, file=sys.stderr)
    return MISTAKE


def _is_foreseen(error: Exception) -> bool:
    """Whether the sentence tells all there is to tell."""
    return error.__cause__ is None and (is_stated(error) or isinstance(error, OSError))


def _let_another_speak(error: Exception) -> None:
    """Give the process that speaks for all the time to do so.

    All processes of a distributed run mostly fail alike: the first one speaks, and the launcher
    ends the others. One that fails alone is not ended, and speaks a little later.
    """
    alone = os.environ.get('WORLD_SIZE', '1') in ('', '0', '1')
    if alone or os.environ.get('RANK', '0') == '0' and not _lost_its_peer(error):
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(PATIENCE)


def _log(error: Exception) -> str:
    """Keep the traceback in a file; the words that name it."""
    text = ''.join(traceback.format_exception(error))
    for path in _log_files():
        try:
            with open(path, 'a', encoding='utf-8', errors='backslashreplace') as file:
                file.write(f'{text}\n')
        except OSError:
            continue
        return f' (details in {path})'
    return ' (--debug shows details)'


def _log_files():
    """The log of the run that has begun, else a new file for what is temporary."""
    for handler in logging.getLogger().handlers + _run_handlers():
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).is_file():
            yield handler.baseFilename
    try:
        handle, path = tempfile.mkstemp('.log', 'mmrobust_')
        os.close(handle)
        yield path
    except OSError:
        return


def _run_handlers() -> list[logging.Handler]:
    logger = sys.modules.get('mmengine.logging')
    if logger is None or not logger.MMLogger.check_instance_created('mmengine'):
        instance = logger and logger.MMLogger._instance_dict
        return [handler for one in (instance or {}).values() for handler in one.handlers]
    return logger.MMLogger.get_instance('mmengine').handlers


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _output_is_lost() -> bool:
    """Whether standard output takes nothing more."""
    try:
        _flush()
    except (OSError, ValueError):
        return True
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError):  # no such call on this system, or no file behind it
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _drop_output() -> None:
    """Nothing more can be printed, and Python is not to try when it ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AttributeError, OSError):
        pass


def _lost_its_peer(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and any(word in str(error) for word in LOST_PEER)

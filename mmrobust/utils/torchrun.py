"""PyTorch's launcher of several processes, without its own report on those that failed.

    python -m mmrobust.utils.torchrun --nproc_per_node=2 tools/train.py CONFIG --launcher pytorch

A process of ours that fails has said why. What the launcher adds, a traceback of itself, only
hides that sentence. One that is killed could say nothing; then the launcher does.
"""
import logging
import os
import signal
import sys

from mmrobust.utils.processes import LAUNCHER


def main() -> int:
    """Run ``torch.distributed.run``; exit as the process that failed first did.

    A signal for the launcher alone is passed on to the processes, which save and say so; its own
    exit status is that of a process ended by the signal.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # before torch 2.5 it looks every 5 seconds only, which would let a second process speak; first,
    # so that the command line's own goes before
    sys.argv.insert(1, '--monitor_interval=0.1')
    os.environ[LAUNCHER] = str(os.getpid())
    if hasattr(signal, 'SIGUSR1'):  # Slurm's warning: older launchers end by it, at once

        def stop(number: int, frame: object) -> None:
            raise SignalException('asked to stop', signal.Signals(number))

        signal.signal(signal.SIGUSR1, stop)
    logging.getLogger('torch.distributed.elastic.multiprocessing.api').setLevel(logging.CRITICAL)
    try:
        run.main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode
        number = -failure.exitcode
        if number not in (signal.SIGINT, signal.SIGTERM):  # nobody asked it to end
            print(f'process {rank} was ended by {failure.signal_name()}: it may lack memory (take '
                  'smaller batches or images, or fewer workers), or a file or library made it '
                  'crash', file=sys.stderr)
        return 128 + number
    except SignalException as stop:
        return 128 + stop.sigval
    return 0


if __name__ == '__main__':
    sys.exit(main())

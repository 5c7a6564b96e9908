"""Signals that ask a run to stop, and processes that end with the one that started them."""
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

# Ctrl-C, the usual request to end, the warning that Slurm sends with --signal=USR1@SECONDS, and
# the end of the terminal
STOP_SIGNALS = tuple(getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGUSR1', 'SIGHUP')
                     if hasattr(signal, name))
# One Ctrl-C reaches a process twice where a launcher passes it on.
SAME_REQUEST = 2.  # seconds
PR_SET_PDEATHSIG = 1
LAUNCHER = 'MMROBUST_LAUNCHER'  # variable that holds the process id of our launcher of several


class Stopped(KeyboardInterrupt):
    """A run that ended because it was asked to, with nothing lost."""

    @property
    def status(self) -> int:
        """Exit status: 0, or what a parent that must tell it from a finished run asks for."""
        return int(os.environ.get('MMROBUST_STOP_STATUS') or 0)


class StopRequests:
    """Notes requests to stop between :meth:`watch` and :meth:`forget`.

    A second Ctrl-C interrupts at once; other repetitions are one request with the first.
    """

    def __init__(self) -> None:
        self._first: float | None = None
        self._previous: dict[int, Any] = {}

    @property
    def pending(self) -> bool:
        """Whether somebody asked."""
        return self._first is not None

    def watch(self) -> None:
        """Take over the signals. Outside the main thread they stay as they are.

        So does SIGHUP where ``nohup`` has switched it off.
        """
        if self._previous or threading.current_thread() is not threading.main_thread():
            return
        below_nohup = {number for number in STOP_SIGNALS if signal.getsignal(number)
                       == signal.SIG_IGN and signal.Signals(number).name == 'SIGHUP'}
        self._previous = {number: signal.signal(number, self._note) for number in STOP_SIGNALS
                          if number not in below_nohup}

    def forget(self) -> None:
        """Give the signals back."""
        self._first = None
        if threading.current_thread() is threading.main_thread():
            previous, self._previous = self._previous, {}
            for number, handler in previous.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
        elif number == signal.SIGINT and now - self._first > SAME_REQUEST:
            raise KeyboardInterrupt


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Let the kernel send this process a signal when its parent ends, however that ends.

    Only Linux can; elsewhere nothing happens.
    """
    if not sys.platform.startswith('linux'):
        return
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:  # it ended just now
        os.kill(os.getpid(), number)


def end_with_launcher() -> None:
    """Let a process of torchrun's end with it: killed, the launcher would leave it alone."""
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        end_with_parent()
        if _is_orphan():
            os.kill(os.getpid(), signal.SIGTERM)


def _is_orphan() -> bool:
    """Whether our launcher ended before this process could ask to end with it."""
    launcher, pid = os.environ.get(LAUNCHER), os.getpid()
    try:
        while launcher and pid:
            pid = int(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[1])
            if pid == int(launcher):
                return False
    except (OSError, ValueError):  # not on Linux, or hidden
        return False
    return bool(launcher)


def shield_workers(loader: Any) -> None:
    """Let the workers of a data loader live as long as the process that reads from them.

    A signal for the whole process group would end them and leave a traceback, while that process
    still needs their samples to stop in order; when it is killed, they end too.

    Args:
        loader (DataLoader): A loader that has not started its workers.
    """
    if not isinstance(getattr(loader, 'worker_init_fn', None), _ShieldedInit):
        loader.worker_init_fn = _ShieldedInit(loader.worker_init_fn)


class _ShieldedInit(partial):
    """``worker_init_fn`` of shielded workers, before the loader's own."""

    def __new__(cls, own: Callable[[int], None] | None) -> '_ShieldedInit':
        return super().__new__(cls, _initialise, own)


def _initialise(own: Callable[[int], None] | None, worker: int) -> None:
    for number in set(STOP_SIGNALS) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, 'sigwaitinfo'):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_wait_for_parent, args=(os.getppid(),), daemon=True).start()
    end_with_parent(signal.SIGKILL)
    if own is not None:
        own(worker)


def _wait_for_parent(parent: int) -> None:
    """End when the parent says so: it ends its workers with the signal that the group gets."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)

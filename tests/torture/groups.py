"""The processes of a run, watched and ended as a whole."""
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from mmrobust.utils import cli
from mmrobust.utils.processes import end_with_parent

REPO = Path(__file__).resolve().parents[2]
PATIENCE = 900  # seconds; only what hangs meets it
MARK = 'MMROBUST_TORTURE'  # a variable of all processes of a run, however they are started


def family(pid: int) -> Iterator[int]:
    """A process and all that it started, as far as they are not orphaned."""
    yield pid
    for text in _of_threads(pid, 'children'):
        for child in text.split():
            yield from family(int(child))


def cpu_seconds(pid: int) -> float:
    """What the processor did for a process and its descendants that live."""
    total = 0
    for member in family(pid):
        total += sum(int(text.split()[0]) for text in _of_threads(member, 'schedstat'))
    return total / 1e9


def _of_threads(pid: int, name: str) -> Iterator[str]:
    """A file of each thread of a process; whatever ends meanwhile is left out."""
    try:
        threads = os.listdir(f'/proc/{pid}/task')
    except OSError:
        return
    for thread in threads:
        with suppress(OSError):
            yield Path(f'/proc/{pid}/task/{thread}/{name}').read_text()


def end_marked(mark: str) -> None:
    """Kill whatever has a mark in its environment, orphans too."""
    for path in Path('/proc').glob('[0-9]*/environ'):
        with suppress(OSError):
            if f'{MARK}={mark}'.encode() in path.read_bytes().split(b'\0'):
                os.kill(int(path.parent.name), signal.SIGKILL)


class Group:
    """The processes of one run: children of this process that execute ``work``.

    Attributes:
        cpu (float): Seconds of the processor, once all have ended.
    """

    def __init__(self, work: Callable[[], None], log: Path, processes: int = 1) -> None:
        self.log, self.cpu = log, 0.
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        self.pids = [self._fork(work, rank, processes, port) for rank in range(processes)]
        self.statuses: dict[int, int] = {}

    def _fork(self, work: Callable[[], None], rank: int, processes: int, port: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        os.setsid()
        end_with_parent(signal.SIGKILL)
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if processes > 1:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes),
                              MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        status = 99
        try:
            sys.argv = ['torture']
            status = cli.run(work)
        finally:
            sys.stdout.flush()
            os._exit(status)

    def running(self) -> bool:
        """Whether none has ended yet."""
        for pid in set(self.pids) - self.statuses.keys():
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                self.statuses[pid] = os.waitstatus_to_exitcode(status)
                self.cpu += usage.ru_utime + usage.ru_stime
        return not self.statuses

    def wait(self, patience: float = PATIENCE) -> list[int]:
        """Exit statuses. As torchrun does, one that fails takes the others with it."""
        deadline, failed = time.monotonic() + patience, False
        while self.running() or len(self.statuses) < len(self.pids):
            left = set(self.pids) - self.statuses.keys()
            if not failed and any(self.statuses.values()):
                failed, deadline = True, time.monotonic() + 3
                self.send(signal.SIGTERM, left)
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL, left)
            time.sleep(.005)
        return [self.statuses[pid] for pid in self.pids]

    def wait_for_cpu(self, seconds: float) -> None:
        """Return once the processor gave so much: a busy machine does not shift the moment."""
        while self.running() and sum(map(cpu_seconds, self.pids)) < seconds:
            time.sleep(.005)

    def send(self, number: int, pids=None) -> None:
        for pid in self.pids if pids is None else pids:
            if pid not in self.statuses:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)


class Command(Group):
    """A command of Python's in the place of children; what it leaves behind ends with it."""

    def __init__(self, command: list[str], log: Path, folder: Path) -> None:
        self.log, self.cpu, self.statuses, self.mark = log, 0., {}, uuid.uuid4().hex
        self.folder = folder
        with log.open('ab') as output:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=REPO, stdout=output, stderr=output,
                start_new_session=True, env=environment(self.mark))
        process.returncode = 0  # it is ours to wait for
        self.pids = [process.pid]

    def wait(self, patience: float = PATIENCE) -> list[int]:
        try:
            return super().wait(patience)
        except BaseException:
            end_marked(self.mark)
            raise


def environment(mark: str, **changes: str) -> dict[str, str]:
    """That of a command of ours."""
    return {**os.environ, 'PYTHONPATH': str(REPO), 'OMP_NUM_THREADS': '1', MARK: mark, **changes}

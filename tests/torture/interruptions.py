"""What happens to a run: signals from outside, and writes that fail within.

An interruption is given the running group, the seconds of the processor that an undisturbed run
takes, and random numbers. A disturbance is set up in the process itself, before it works.
"""
import errno
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

from groups import Group, cpu_seconds, family

from mmrobust.utils import files


def wait_some(group: Group, length: float, rng: random.Random) -> None:
    group.wait_for_cpu(rng.uniform(0, length))


def kill(group: Group, length: float, rng: random.Random) -> None:
    wait_some(group, length, rng)
    group.send(signal.SIGKILL)


def kill_one(group: Group, length: float, rng: random.Random) -> None:
    wait_some(group, length, rng)
    group.send(signal.SIGKILL, [rng.choice(group.pids)])


def stop_then_kill(group: Group, length: float, rng: random.Random) -> None:
    wait_some(group, length, rng)
    group.send(signal.SIGTERM)
    time.sleep(rng.uniform(0, .1))
    group.send(signal.SIGKILL)


def stop(group: Group, length: float, rng: random.Random) -> None:
    """One of the processes, whichever, is asked to."""
    wait_some(group, length, rng)
    number = rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
    group.send(number, [rng.choice(group.pids)])


def late(number: int, share: float) -> Callable:
    """A signal for a command alone, in a share of its work after the first log file is there."""
    def interrupt(group: Group, length: float, rng: random.Random) -> None:
        while group.running() and not list(group.folder.rglob('*.log')):
            time.sleep(.01)
        group.wait_for_cpu(sum(map(cpu_seconds, group.pids)) + rng.uniform(0, share * length))
        group.send(number)

    return interrupt


def kill_worker(group: Group, length: float, rng: random.Random) -> None:
    wait_some(group, length / 2, rng)
    while group.running():
        workers = [pid for pid in family(group.pids[0])][1:]
        if workers:
            group.send(signal.SIGKILL, [rng.choice(workers)])
            return
        time.sleep(.005)


def nothing(group: Group, length: float, rng: random.Random) -> None:
    """The interruption is within the work."""


def die_in_a_write(rng: random.Random, folder: Path) -> None:
    """SIGKILL in the midst of writing a file, before it is flushed, or before it is renamed."""
    where = rng.choice(['open', 'fsync', 'replace'])
    count, original = [rng.randrange(1, 14)], getattr(files.os, where)

    def dying(*args, **kwargs):
        inside = where != 'open' or (len(args) > 1 and args[1] & os.O_CREAT)
        count[0] -= inside
        if inside and count[0] == 0:
            if where == 'fsync' and rng.random() < .5:  # half of the file is there
                os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(files.os, where, dying)


def fill_the_disk(rng: random.Random, folder: Path) -> None:
    """After some files, no file may be longer than 2 kB."""
    count, original = [rng.randrange(1, 12)], files.os.replace

    def filling(*args):
        original(*args)
        count[0] -= 1
        if count[0] == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE,
                               (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    files.os.replace = filling


def read_only(rng: random.Random, folder: Path) -> None:
    """After some files, the folder takes no new ones."""
    count, original = [rng.randrange(0, 24)], files.os.open

    def refusing(path, flags, *args, **kwargs):
        if flags & os.O_CREAT and str(path).startswith(str(folder)):
            count[0] -= 1
            if count[0] < 0:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return original(path, flags, *args, **kwargs)

    files.os.open = refusing

"""Kills, full disks and stop requests by the hundred: nothing is lost, every end is the same.

    make torture                                     # the whole campaign
    python tests/torture/campaign.py --trials 1      # one of each kind

Every trial runs in children of one warm process, is interrupted, and is then run again until it
is finished. Its end is compared, bit by bit, with that of an undisturbed run. One whose
interruption came after the end is no trial: it is repeated.
"""
import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import interruptions as on  # noqa: E402
import torch  # noqa: E402
from groups import Command, Group  # noqa: E402
from kinds import KINDS, Kind, end_of_training, write_images  # noqa: E402

from mmrobust.checkpoints import latest_checkpoint, load_foreign  # noqa: E402
from mmrobust.utils.files import write_text_atomically  # noqa: E402

Reference = tuple[str, float]  # the end of an undisturbed run, and its seconds of the processor


class Lost(AssertionError):
    """A checkpoint is gone or damaged, or the run cannot go on."""


class AnotherEnd(AssertionError):
    """It went on to other results."""



class Campaign:
    """Trials, in folders below ``root``."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed
        self.references: dict[tuple, Reference] = {}
        write_images(root / 'images')

    def start(self, kind: Kind, folder: Path, before: Callable[[], None] | None = None) -> Group:
        """Let the processes of a kind work in a folder; ``before`` is done by each of them."""
        folder.mkdir(parents=True, exist_ok=True)
        log = self.root / f'{folder.name}.log'
        if kind.processes == 0:
            return Command(kind.work(folder), log, folder)

        def child() -> None:
            if before is not None:
                before()
            kind.work(folder)

        return Group(child, log, kind.processes)

    def reference(self, name: str) -> Reference:
        """What an undisturbed run comes to. It is made twice, and must come to the same."""
        kind = KINDS[name]
        key = kind.work, kind.processes
        if key not in self.references:
            modules, ends = self.root / 'modules.txt', set()

            def noting(folder: Path) -> None:
                kind.work(folder)
                write_text_atomically(modules, '\n'.join(sys.modules))

            for run in 'ab' if kind.processes else 'a':
                folder = self.root / f'reference_{list(KINDS).index(name)}{run}'
                group = self.start(kind._replace(work=noting) if kind.processes else kind, folder)
                statuses = group.wait()
                assert not any(statuses), (self.root / f'{folder.name}.log').read_text()[-3000:]
                ends.add(kind.end(folder))
                for module in modules.read_text().split('\n') if kind.processes else ():
                    with suppress(Exception):  # what it imported at work: now once for all
                        importlib.import_module(module)
            assert len(ends) == 1, f'{name}: two undisturbed runs differ'
            self.references[key] = ends.pop(), group.cpu / len(group.pids)
        return self.references[key]

    def trial(self, name: str, number: int) -> int:
        """Interrupt a run once or twice, then let it finish.

        Returns:
            int: How many interruptions came too late.

        Raises:
            Lost: If anything was.
            AnotherEnd: If it is not that of the undisturbed run.
        """
        kind, rng = KINDS[name], random.Random(f'{self.seed} {name} {number}')
        expected, _ = self.reference(name)
        for attempt in range(50):
            folder = self.root / f'{list(KINDS).index(name)}_{number}_{attempt}'
            if self._interrupt(name, folder, rng):
                break
        else:
            raise RuntimeError(f'{name}: never in time')
        for _ in range(60):  # what ends with its launcher may still hold the folder for a moment
            path = self.root / f'{folder.name}.log'
            said = path.stat().st_size
            statuses = self.start(kind, folder).wait()
            log = path.read_text()
            # each process of a run writes, the one that is refused not always last
            if not any(statuses) or 'is in use by' not in log[said:]:
                break
            time.sleep(1)
        if any(statuses):
            raise Lost(f'{name}, {folder}: {log[-2000:]}')
        if kind.end(folder) != expected:
            raise AnotherEnd(f'{name}, {folder}')
        shutil.rmtree(folder)
        return attempt

    def _interrupt(self, name: str, folder: Path, rng: random.Random) -> bool:
        """Whether a run was interrupted before its end."""
        kind, (expected, length) = KINDS[name], self.reference(name)
        saved = 0
        for _ in range(rng.choice([1, 1, 2])):
            disturb = kind.disturb and (lambda: kind.disturb(rng, folder))
            group = self.start(kind, folder, disturb)
            kind.interrupt(group, length * len(group.pids), rng)
            rng.random()  # the child drew, this process did not
            statuses = group.wait()
            if kind.interrupt is on.stop:
                self._check_stopped(statuses, folder)
            if kind.end is end_of_training:
                saved = self._check_saved(folder, saved)
            try:
                if kind.end(folder) == expected:
                    return False
            except (OSError, StopIteration):  # no end at all
                pass
        return True

    def _check_stopped(self, statuses: list[int], folder: Path) -> None:
        """Asked to stop, it ends well; before it listens, by the signal."""
        by_signal = {-signal.SIGTERM, -signal.SIGUSR1, 130}
        if any(statuses) and not by_signal & set(statuses):
            log = (self.root / f'{folder.name}.log').read_text()
            raise Lost(f'{folder}, {statuses}: {log[-2000:]}')

    def _check_saved(self, folder: Path, before: int) -> int:
        """Once there was a checkpoint there is one no older, and all of that name are whole."""
        pointer, found = folder / 'last_checkpoint', latest_checkpoint(folder)
        if found is None:
            if pointer.exists() or before:
                raise Lost(f'{folder}: no checkpoint is left')
            return 0
        saved = load_foreign(found.path)['meta']['iter']
        if found.skipped or saved < before:
            raise Lost(f'{folder}: iteration {saved} after {before}, {found.skipped}')
        return saved


def lane(campaign: Campaign, jobs: list[tuple[str, int]], until: float, report: Path) -> None:
    """Trials one after another, a line of JSON for each."""
    with report.open('a') as file:
        for name, number in jobs:
            if time.monotonic() > until:
                return
            outcome = dict(kind=name, late=0, failure=None, said='the same end')
            try:
                outcome['late'] = campaign.trial(name, number)
            except Exception as error:
                outcome.update(failure=type(error).__name__, said=str(error))
            file.write(json.dumps(outcome) + '\n')
            file.flush()
            print(name, number, outcome['failure'], outcome['said'], flush=True)


def table(names: list[str], outcomes: list[dict]) -> str:
    rows = [('kind', 'trials', 'lost', 'another end', 'failed otherwise', 'too late, repeated')]
    for name in [*names, 'all']:
        own = [outcome for outcome in outcomes if name in (outcome['kind'], 'all')]
        failures = Counter(outcome['failure'] for outcome in own if outcome['failure'])
        lost, other = failures['Lost'], failures['AnotherEnd']
        rows.append((name, len(own), lost, other, failures.total() - lost - other,
                     sum(outcome['late'] for outcome in own)))
    return '\n'.join('| {:40} | {:>6} | {:>4} | {:>11} | {:>16} | {:>18} |'.format(*row)
                     for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--trials', type=int, help='of each kind (default: '
                        f'{sum(kind.share for kind in KINDS.values())} in all)')
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=list(KINDS), metavar='KIND',
                        help='only these: ' + '; '.join(KINDS))
    parser.add_argument('--jobs', type=int, default=min(4, os.cpu_count() or 1),
                        help='trials at a time (default: %(default)s)')
    parser.add_argument('--minutes', type=float, help='start no trial after so many')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--keep', action='store_true', help='keep the folder of the trials')
    args = parser.parse_args()
    torch.set_num_threads(1)
    until = time.monotonic() + 60 * (args.minutes or 1e6)
    root = Path(tempfile.mkdtemp(prefix='torture_'))
    campaign = Campaign(root, args.seed)
    shares = {name: args.trials or KINDS[name].share for name in args.kinds}
    # in turns, so that a campaign that is cut short has tried all kinds
    jobs = [(name, number) for number in range(max(shares.values()))
            for name, share in shares.items() if number < share]
    for name in args.kinds:
        campaign.reference(name)
    reports = [root / f'lane_{i}.jsonl' for i in range(min(args.jobs, len(jobs)))]
    lanes = [Group(lambda i=i, report=report: lane(campaign, jobs[i::len(reports)], until, report),
                   root / f'lane_{i}.log') for i, report in enumerate(reports)]
    statuses = [group.wait(float('inf'))[0] for group in lanes]
    outcomes = [json.loads(line) for report in reports if report.exists()
                for line in report.read_text().splitlines()]
    print(table(args.kinds, outcomes))
    failures = [outcome['said'] for outcome in outcomes if outcome['failure']]
    if failures or any(statuses):
        logs = [(root / f'lane_{i}.log').read_text()[-2000:] for i in range(len(lanes))]
        sys.exit('\n'.join([*failures, *logs, f'the folders of the trials are in {root}']))
    if not args.keep:
        shutil.rmtree(root)


if __name__ == '__main__':
    main()

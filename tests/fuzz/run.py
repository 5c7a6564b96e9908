#!/usr/bin/env python
"""Try the tools with wrong and odd inputs, and count how they end.

    python tests/fuzz/run.py                      all cases, a table, and what went wrong
    python tests/fuzz/run.py --only test/data     those whose name contains a text
    python tests/fuzz/run.py --sample 60 --seed 3 so many of them
    python tests/fuzz/run.py --quick              those that end early

Every case is a child of one process that has loaded the libraries. Outcomes: a sentence (exit
status 1, or 2 with the usage), accepted (0), a traceback anywhere in the output, a crash (killed
by a signal, or another status), a hang (over the time limit).
"""
import argparse
import collections
import gc
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)]

from case import Case  # noqa: E402
from cases import all_cases  # noqa: E402
from materials import REPO, make  # noqa: E402

LIMIT = 120  # seconds for one case, on a machine with nothing else to do
OUTCOMES = ('sentence', 'accepted', 'traceback', 'crash', 'hang')
# kinds whose cases mostly end before a model is built
QUICK = ('print options', 'convert', 'camvid', 'ablation', 'command', 'corrupt data set', 'results',
         'test options')
LONGEST = 700  # characters of a sentence


def warm_up() -> None:
    """Import what the tools need, once."""
    os.environ['OMP_NUM_THREADS'] = '1'
    import torch

    torch.set_num_threads(1)
    import cv2
    import matplotlib.figure  # noqa: F401
    import mmpretrain.apis  # noqa: F401
    import mmpretrain.datasets  # noqa: F401
    import mmpretrain.models  # noqa: F401
    import mmseg.apis  # noqa: F401
    import mmseg.datasets  # noqa: F401
    import mmseg.models  # noqa: F401

    import mmrobust.analysis.subject
    import mmrobust.apis
    import mmrobust.evaluation.loop  # noqa: F401

    cv2.setNumThreads(0)
    # what takes long and is not tried: layout of a config's text, description of the machine
    import mmengine.runner.runner as runner
    import yapf.yapflib.yapf_api as yapf

    yapf.FormatCode = lambda text, **kwargs: (text, True)
    runner.collect_env = lambda: {}
    gc.freeze()  # children need not copy what they never free


def start(case: Case, folder: Path, scratch: Path) -> tuple[int, Path]:
    """Begin a case in a child process; its id and the file of its output."""
    output = scratch.with_suffix('.txt')
    scratch.mkdir()
    child = os.fork()
    if child:
        return child, output
    status = 99
    try:
        os.setpgid(0, 0)
        os.chdir(scratch)
        for number, flags in ((0, os.O_RDONLY), (1, 0), (2, 0)):
            target = os.open(os.devnull if number == 0 else output,
                             flags or os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(target, number)
        tempfile.tempdir = str(scratch)
        os.environ.update(case.environment)
        if case.before is not None:
            case.before(scratch)
        arguments = [str(argument).replace('{m}', str(folder)) for argument in case.arguments]
        sys.argv = [str(REPO / 'tools' / case.tool), *arguments]
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        runpy.run_path(sys.argv[0], run_name='__main__')
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass
        os._exit(status)


def judge(status: int | None, text: str) -> str:
    """The outcome, from the wait status (None after the limit) and the output."""
    if status is None:
        return 'hang'
    if 'Traceback (most recent call last)' in text:
        return 'traceback'
    if os.WIFSIGNALED(status):
        return 'crash'
    code = os.WEXITSTATUS(status)
    if code in (1, 2):
        return 'sentence' if last_line(text) else 'crash'
    return 'accepted' if code == 0 else 'crash'


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ''


def play(cases: list[Case], folder: Path, parallel: int = 1, report=None,
         limit: float = LIMIT) -> list[tuple]:
    """Run cases; ``(case, outcome, output, seconds of CPU)`` of each."""
    waiting, running, done = list(enumerate(cases)), {}, []
    while waiting or running:
        while waiting and len(running) < parallel:
            number, case = waiting.pop(0)
            child, output = start(case, folder, folder / f'scratch{number}')
            running[child] = case, output, time.monotonic()
        time.sleep(0.02)
        for child, (case, output, begun) in list(running.items()):
            finished, status, usage = os.wait4(child, os.WNOHANG)
            if not finished and time.monotonic() - begun < limit:
                continue
            if not finished:
                status = None
            try:
                os.killpg(child, signal.SIGKILL)  # and workers that it left
            except ProcessLookupError:
                pass
            if not finished:
                _, _, usage = os.wait4(child, 0)
            del running[child]
            text = output.read_bytes().decode('utf-8', 'replace') if output.exists() else ''
            done.append((case, judge(status, text), text, usage.ru_utime + usage.ru_stime))
            if report is not None:
                report(*done[-1])
            shutil.rmtree(output.with_suffix(''), ignore_errors=True)
    return done


def table(done: list[tuple]) -> str:
    """Outcomes of each tool."""
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for case, outcome, *_ in done:
        counts[case.tool][outcome] += 1
        counts['all'][outcome] += 1
    width = max(map(len, counts))
    rows = [f'{"":{width}} ' + ' '.join(f'{name:>9}' for name in ('cases', *OUTCOMES))]
    for tool, counter in sorted(counts.items(), key=lambda item: (item[0] == 'all', item[0])):
        rows.append(f'{tool:{width}} {sum(counter.values()):9d} ' + ' '.join(
            f'{counter[name]:9d}' for name in OUTCOMES))
    return '\n'.join(rows)


def faults(done: list[tuple]) -> list[tuple[str, Case, str]]:
    """What is not as it should be: the fault, the case, and its output."""
    found = []
    for case, outcome, text, _ in done:
        if outcome in ('traceback', 'crash', 'hang'):
            found.append((outcome, case, text))
        elif outcome == 'accepted' and case.wrong:
            found.append(('accepted though wrong', case, text))
        elif outcome == 'sentence' and case.wrong is False:
            found.append(('refused though right', case, text))
        elif outcome == 'sentence' and len(last_line(text)) > LONGEST:
            found.append(('a long sentence', case, text))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', help='cases whose name contains this')
    parser.add_argument('--sample', type=int, help='so many of the cases')
    parser.add_argument('--quick', action='store_true',
                        help='only kinds of cases that end early')
    parser.add_argument('--seed', type=int, default=0, help='of the sample and of random values')
    parser.add_argument('--parallel', type=int, default=2)
    parser.add_argument('--limit', type=float, default=LIMIT,
                        help='seconds after which a case hangs (more where the machine is busy)')
    parser.add_argument('--verbose', action='store_true', help='every case, with its last line')
    parser.add_argument('--log', help='file for all outputs')
    args = parser.parse_args()
    cases = [case for case in all_cases(args.seed) if not args.only or args.only in case.name]
    if args.quick:
        cases = [case for case in cases if case.kind in QUICK]
    if args.sample:
        cases = random.Random(args.seed).sample(cases, min(args.sample, len(cases)))
    log = open(args.log, 'w', errors='backslashreplace') if args.log else None

    def report(case: Case, outcome: str, text: str, seconds: float) -> None:
        if args.verbose:
            print(f'{outcome:9} {seconds:5.1f} s  {case.name}: {last_line(text)}', flush=True)
        if log:
            log.write(f'##### {outcome} {case.wrong} {case.name}\n{text}\n')
            log.flush()

    sys.stdout.reconfigure(errors='backslashreplace')
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        done = play(cases, Path(folder), args.parallel, report, args.limit)
    found = faults(done)
    for fault, case, text in found:
        print(f'--- {fault}: {case}\n{text[-1500:]}')
    print(table(done))
    print(f'{len(found)} faults: ' + ', '.join(
        f'{count} {name}' for name, count in collections.Counter(f for f, *_ in found).items()))
    return bool(found)


if __name__ == '__main__':
    sys.exit(main())

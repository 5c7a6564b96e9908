"""Everything that a GPU has to show, in stages of at most eight minutes, each stored at once.

Repeated, it goes on where it was. `--report` writes docs/gpu.md from what is stored. `--dry-run`
does the same on the CPU at toy size, to see that it works before there is a GPU. OUT holds what is
worth bringing back, a few small files; trainings leave their checkpoints in OUT_runs beside it.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
STAGE_SECONDS = 480
CHANNELS = 448  # of the attention benchmark
# matrix products of N x N x C in a forward and backward pass: the library's fused attention needs
# 2 + 5; the statistics 1 (the sum over heads), and again 1, 3 (gradient of the queries) and 2
PRODUCTS = {'sdpa': 7, 'flash': 7, 'ours': 14}


INTRODUCTION = """\
# On a GPU

`make gpu` runs on one NVIDIA card all that these pages could say of it, in stages of at most eight
minutes (`benchmarks/gpu_day.py`): the kernels' tests against float64, compute-sanitizer on them
where it is installed, attention, pooling and training steps beside what PyTorch offers, and small
trainings with several seeds. Every stage stores its JSON at once; started again, it goes on with
the next. `tools/gpu_day.sh WHEELS OUT` does the same without a network: the packages come as
wheels. Then `benchmarks/gpu_day.py --out OUT --report` writes this page. `--dry-run` tries all of
it on the CPU in a few minutes, at toy size.

Without a card Triton's interpreter runs the kernels (`tests/ops/test_triton.py`).
"""
NOTHING = """\
`make gpu` has measured nothing for this page yet. What was measured on a card by hand is in
[performance](performance.md#gpus).
"""


def runs(out: Path) -> Path:
    """Where the trainings go."""
    return out.with_name(f'{out.name}_runs')


def commands(out: Path, dry: bool, minutes: float, jobs: int) -> dict[str, list[str]]:
    """Stage and its command; every stage writes OUT/stage.json."""
    device = ['--device', 'cpu' if dry else 'cuda']

    def benchmark(script: str, name: str, *options: str) -> tuple[str, list[str]]:
        return name, [sys.executable, f'benchmarks/{script}.py', *device, *options, '--json',
                      str(out / f'{name}.json')]

    tests = [sys.executable, '-m', 'pytest', '-q', 'tests/ops/test_cuda.py', '-p',
             'no:cacheprovider', f'--junitxml={out / "tests.xml"}']
    if not dry and _has('xdist'):
        tests += ['-n', str(min(12, os.cpu_count() or 1))]
    sizes = ['64'] if dry else ['1024', '4096', '16384']
    steps = ['1x64'] if dry else ['1x512', '1x1024']
    cases = 'plain', 'TAP', 'ADL', 'TAP & ADL', 'TAP & ADL, dense'
    stages = dict([
        ('tests', tests),
        benchmark('attention', 'attention_bfloat16', '--dtype', 'bfloat16', '--batch', '2',
                  '--tokens', *sizes),
        benchmark('attention', 'attention_float32', '--batch', '2', '--tokens', *sizes[:2]),
        benchmark('token_pooling', 'pooling_bfloat16', '--dtype', 'bfloat16', '--batch', '8',
                  '--sizes', *(['8'] if dry else ['64', '128'])),
        benchmark('train_step', 'step_bfloat16', '--dtype', 'bfloat16', '--sizes', *steps,
                  '--dense-limit', '1024', '--cases', *cases),
        benchmark('train_step', 'step_large', '--dtype', 'bfloat16', '--sizes',
                  *(['1x96'] if dry else ['8x1024', '1x2048']), '--cases', 'plain', 'TAP & ADL'),
        ('evidence', [sys.executable, 'benchmarks/evidence.py', '--out', str(runs(out)),
                      '--jobs', str(jobs), *(
                          ['--length', '2', '--seeds', '1', '--variants', 'plain', 'TAP & ADL',
                           '--attention-images', '2', '--cfg-options',
                           'train_dataloader.dataset.indices=256'] if dry else
                          ['--budget', str(minutes), '--models', 'fan_mini'])])])
    sanitizer = shutil.which('compute-sanitizer')
    if sanitizer is None:
        print('compute-sanitizer is not installed: the kernels run without it')
    elif not dry:
        stages['sanitizer'] = [sanitizer, '--error-exitcode', '9', sys.executable, '-m', 'pytest',
                               '-q', 'tests/ops/test_cuda.py', '-p', 'no:cacheprovider', '-k',
                               'test_attention and 65x33 or test_pooling and shape0']
    return stages


def _has(module: str) -> bool:
    import importlib.util
    return importlib.util.find_spec(module) is not None


def ceilings(out: Path, dry: bool) -> None:
    """What the card can do: a large matrix product and a large copy."""
    if dry:
        record = dict(name='CPU (dry run)', torch=torch.__version__, tflops=None, copy_tb=None)
    else:
        from triton.testing import do_bench
        a = torch.randn(8192, 8192, device='cuda', dtype=torch.bfloat16)
        x = torch.empty(2**30, device='cuda', dtype=torch.uint8)
        y = torch.empty_like(x)
        record = dict(
            name=torch.cuda.get_device_name(), torch=torch.__version__,
            tflops=2 * 8192**3 / do_bench(lambda: a @ a, return_mode='median') / 1e9,
            copy_tb=2 * 2**30 / do_bench(lambda: y.copy_(x), return_mode='median') / 1e9)
    (out / 'device.json').write_text(json.dumps(record, indent=1))


def execute(name: str, command: list[str], out: Path, limit: float) -> None:
    """Run one stage; its output goes to OUT/stage.log, what it lacks to OUT/stage.json."""
    stored = out / f'{name}.json'
    if stored.exists():
        return
    began = time.time()
    print(time.strftime('%H:%M:%S'), name, flush=True)
    with open(out / f'{name}.log', 'w') as log:
        try:
            code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                                  check=False, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            code = -1
    print(f'         {name}: exit {code}, {time.time() - began:.0f} s', flush=True)
    if name == 'tests' and (out / 'tests.xml').exists():
        text = (out / 'tests.xml').read_text()
        found = {key: int(re.search(rf'{key}="(\d+)"', text)[1])
                 for key in ('tests', 'failures', 'errors', 'skipped')}
        stored.write_text(json.dumps(found))
    elif name == 'sanitizer':
        stored.write_text(json.dumps(dict(exit=code)))
    elif name == 'evidence' and runs(out).exists():
        done = [json.loads(path.read_text())
                for path in sorted(runs(out).glob('*/*/*/run.json'))]
        (out / 'evidence_runs.json').write_text(json.dumps(done, indent=1))
        if code == 0:
            stored.write_text(json.dumps(done, indent=1))
    if code:
        lines = (out / f'{name}.log').read_text(errors='replace').splitlines()[-15:]
        print('\n'.join(lines), flush=True)


def _read(out: Path, name: str):
    path = out / f'{name}.json'
    return json.loads(path.read_text()) if path.exists() else None


def _median(runs: list[dict], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def _markdown(rows: list[list[str]]) -> list[str]:
    return ['| ' + ' | '.join(rows[0]) + ' |', '|' + '---|' * len(rows[0]),
            *('| ' + ' | '.join(row) + ' |' for row in rows[1:]), '']


def report(out: Path) -> str:
    """docs/gpu.md: what a dry run measured does not belong there."""
    device = _read(out, 'device') or {}
    return f'{INTRODUCTION}\n{measured(out) if device.get("tflops") else NOTHING}'


def measured(out: Path) -> str:
    """What the stages that ran have stored."""
    device = _read(out, 'device')
    name, peak, copy = device['name'], device['tflops'], device['copy_tb']
    lines = [
        '## The card', '',
        '<!-- written by benchmarks/gpu_day.py --report from what `make gpu` measured -->', '',
        f'Everything here was measured on one **{name}** with torch {device["torch"]}, by '
        '`make gpu`. Times are the shortest of turns taken in one run.', '']
    if peak:
        lines += [f'The card itself, in the same run: {peak:.0f} TFLOP/s in an 8192 x 8192 '
                  f'bfloat16 matrix product, {copy:.2f} TB/s read and written by a copy.', '']
    tests, sanitizer = _read(out, 'tests'), _read(out, 'sanitizer')
    if tests:
        passed = tests['tests'] - tests['failures'] - tests['errors'] - tests['skipped']
        lines += [f'`tests/ops/test_cuda.py`, kernels against float64: {passed} passed, '
                  f'{tests["failures"] + tests["errors"]} failed, {tests["skipped"]} skipped.'
                  + ('' if sanitizer is None else ' compute-sanitizer (memcheck) on ragged sizes: '
                     + ('no error.' if sanitizer['exit'] == 0 else f'exit {sanitizer["exit"]}.')),
                  '']
    for dtype in ('bfloat16', 'float32'):
        records = _read(out, f'attention_{dtype}')
        if not records:
            continue
        rows = [['tokens', 'case', 'ms', 'MiB', 'time / sdpa', 'share of the matrix peak']]
        for r in records:
            flops = PRODUCTS.get(r['case'], 0) * 2 * 2 * int(r['size'])**2 * CHANNELS
            share = (f'{100 * flops / r["milliseconds"] / 1e9 / peak:.0f} %'
                     if flops and peak and dtype == 'bfloat16' else '')
            rows.append([r['size'], r['case'], f'{r["milliseconds"]:.3f}', f'{r["megabytes"]:.0f}',
                         f'{r["time_ratio"]:.2f}', share])
        lines += [f'## Attention with ADL, {dtype}', '',
                  f'Forward and backward of one layer, two images, {CHANNELS} channels, 8 heads '
                  f'({name}). `sdpa` is what PyTorch chooses by itself, `flash` its own flash '
                  'attention, both without the loss; `dense` computes the matrices.', '',
                  *_markdown(rows)]
    if records := _read(out, 'pooling_bfloat16'):
        rows = [['map', 'case', 'ms', 'MiB', 'time / unfold']]
        rows += [[r['size'], r['case'], f'{r["milliseconds"]:.2f}', f'{r["megabytes"]:.0f}',
                  f'{r["time_ratio"]:.3f}'] for r in records]
        lines += ['## Token-aware pooling, bfloat16', '',
                  f'Forward and backward, eight images, {CHANNELS} channels ({name}).', '',
                  *_markdown(rows)]
    for stage, title in (('step_bfloat16', 'A training step of FAN-B'),
                         ('step_large', 'Larger steps')):
        if records := _read(out, stage):
            rows = [['images x side', 'case', 'ms', 'MiB', 'time / plain', 'memory / plain']]
            rows += [[r['size'], r['case'], f'{r["milliseconds"]:.0f}', f'{r["megabytes"]:.0f}',
                      f'{r["time_ratio"]:.2f}', f'{r["memory_ratio"]:.2f}'] for r in records]
            lines += [f'## {title}, bfloat16', '',
                      f'Whole model with its losses, forward and backward ({name}).', '',
                      *_markdown(rows)]
    trained = _read(out, 'evidence') or _read(out, 'evidence_runs')
    if trained:
        import evidence
        rows = [row for row in evidence.table(trained) if row]
        lengths = sorted({r['length'] for r in trained})
        timed = [r for r in trained if 'time' in r]
        speed = '' if not timed else (
            f' An iteration of 128 images took {1e3 * _median(timed, "time"):.0f} ms (median), of '
            f'which {1e3 * _median(timed, "data_time"):.0f} ms waiting for the loader, with other '
            'trainings beside it.')
        lines += ['## Small models, several seeds', '',
                  f'`benchmarks/evidence.py` ({name}): CIFAR-10 at 32 x 32, {lengths[0]} epochs '
                  'from scratch, 500 held-out images, clean and under 15 corruptions at severities '
                  f'1, 3 and 5; mean and standard deviation over seeds.{speed}', '',
                  *_markdown(rows)]
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', default='work_dirs/gpu_day')
    parser.add_argument('--stages', nargs='+', help='only these')
    parser.add_argument('--minutes', type=float, default=8., help='of the evidence')
    parser.add_argument('--jobs', type=int, default=max(1, (os.cpu_count() or 1) * 5 // 8),
                        help='trainings at a time')
    parser.add_argument('--dry-run', action='store_true')
    parser.add_argument('--report', nargs='?', const='docs/gpu.md', metavar='FILE',
                        help='write it from what is stored')
    args = parser.parse_args()
    out = Path(args.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    if args.report:
        Path(args.report).write_text(report(out))
        return
    if not args.dry_run and not torch.cuda.is_available():
        parser.error('there is no GPU here: --dry-run tries the stages on the CPU')
    if not (out / 'device.json').exists():
        ceilings(out, args.dry_run)
    for name, command in commands(out, args.dry_run, args.minutes, args.jobs).items():
        if not args.stages or name in args.stages:
            more = 60 * args.minutes if name == 'evidence' else 0
            execute(name, command, out, STAGE_SECONDS + more)
    print(measured(out))


if __name__ == '__main__':
    main()

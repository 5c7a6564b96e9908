"""What TAP, ADL and AFAT do to small models: several seeds, within a time that is given.

Trains every variant of a model from scratch with every seed, by `mmrobust train`, measures it by
`mmrobust benchmark` (clean and corrupted) and `mmrobust diversity` (attention), and prints means
and standard deviations over seeds, and differences to the plain model paired by seed. How long
each may train follows from an epoch that is measured first. Every run is stored at once, and
repeated the command goes on where it was.
"""
import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mmrobust.utils.tables import format_table

LENGTHS = 2, 200  # epochs, or hundreds of iterations, that are worth training and the most
FIRST_SHARE = .1  # of the training is warm-up
COST = {'AFAT': 2.4, 'AFAT random': 2.2, 'TAP & ADL & AFAT': 3.}  # to the plain model
OVERHEAD = 40.  # seconds of a run besides training, when nothing is known yet


class Family(NamedTuple):
    """Variants of a model.

    Attributes:
        configs: Config of each variant.
        options: Overrides of all.
        benchmark: What is measured.
        by_epoch: Whether a training is measured in epochs, or in hundreds of iterations.
    """
    configs: dict[str, str]
    options: tuple[str, ...]
    benchmark: tuple[str, ...]
    by_epoch: bool


def _variants(config: str, afat: bool, random: bool) -> dict[str, str]:
    name, data = config.rsplit('_', 1)
    parts = {'plain': '', 'TAP': '_tap', 'ADL': '_adl', 'TAP & ADL': '_tap_adl'}
    if random:
        parts['AFAT random'] = '_afat_random'
    if afat:
        parts['AFAT'] = '_afat'
    if random:
        parts['TAP & ADL & AFAT'] = '_tap_adl_afat'
    return {variant: f'{name}{part}_{data}' for variant, part in parts.items()}


CIFAR = ('cifar10-c', '--severities', '1', '3', '5', '--benchmark-options', 'subset=500')
FAMILIES = {
    'fan_mini': Family(_variants('fan_mini_cifar10', afat=True, random=True), (), CIFAR, True),
    'rvt_mini': Family(_variants('rvt_mini_cifar10', afat=True, random=False), (), CIFAR, True),
    'fan_t': Family(
        _variants('fan_t_camvid', afat=False, random=False),
        ('train_dataloader.dataset.pipeline.2.scale=(240,180)',
         'train_dataloader.dataset.pipeline.3.crop_size=(160,160)',
         'model.data_preprocessor.size=(160,160)', 'model.decode_head.channels=128',
         'val_dataloader.dataset.pipeline.1.scale=(240,180)',
         'test_dataloader.dataset.pipeline.1.scale=(240,180)'),
        ('cityscapes-c', '--severities', '3'), False)}


class Run(NamedTuple):
    model: str
    variant: str
    seed: int

    def config(self) -> tuple[str, list[str]]:
        """'ADL, lambda 0.1' is ADL with another weight of its loss."""
        family = FAMILIES[self.model]
        name, _, weight = self.variant.partition(', lambda ')
        options = [f'model.diversification.loss_weight={weight}'] * bool(weight)
        return family.configs[name], [*options, *family.options]

    def cost(self) -> float:
        return COST.get(self.variant.partition(',')[0], 1.2)


def say(text: str) -> None:
    print(time.strftime('%H:%M:%S'), text, flush=True)


def call(arguments: list[str], log: Path) -> None:
    """Run `mmrobust`; a failure shows the end of its log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'w') as file:
        code = subprocess.run([sys.executable, '-m', 'mmrobust', *arguments], stdout=file,
                              stderr=subprocess.STDOUT, check=False,
                              env={'OMP_NUM_THREADS': '1', **os.environ}).returncode
    if code:
        tail = '\n'.join(log.read_text(errors='replace').splitlines()[-8:])
        raise SystemExit(f'`mmrobust {" ".join(arguments)}` failed ({code}):\n{tail}')


def train(run: Run, length: int, folder: Path, args: argparse.Namespace) -> None:
    config, options = run.config()
    warm_up = max(1, round(FIRST_SHARE * length))
    if not FAMILIES[run.model].by_epoch:
        length, warm_up = 100 * length, 100 * warm_up
    kind = 'epochs' if FAMILIES[run.model].by_epoch else 'iters'
    call(['train', config, '--work-dir', str(folder / 'model'), '--resume', '--cfg-options',
          f'train_cfg.max_{kind}={length}', f'train_cfg.val_interval={length}',
          f'param_scheduler.0.end={min(warm_up, length - 1)}',
          f'param_scheduler.1.begin={min(warm_up, length - 1)}', f'param_scheduler.1.end={length}',
          f'default_hooks.checkpoint.interval={length}',
          'default_hooks.checkpoint.max_keep_ckpts=1',
          f'randomness.seed={run.seed}', *loaders(args), *options, *(args.cfg_options or [])],
         folder / 'train.log')


def loaders(args: argparse.Namespace) -> list[str]:
    keep = args.workers > 0
    return [f'{name}_dataloader.{key}={value}' for name in ('train', 'val', 'test')
            for key, value in (('num_workers', args.workers), ('persistent_workers', keep))]


def measure(run: Run, folder: Path, args: argparse.Namespace) -> dict:
    """The numbers of a trained model."""
    model = folder / 'model'
    config = model / f'{run.config()[0]}.py'
    name, *options = FAMILIES[run.model].benchmark
    call(['benchmark', str(config), str(model), name, '--work-dir', str(folder), *options],
         folder / 'benchmark.log')
    call(['diversity', str(config), str(model), '--images', str(args.attention_images), '--out',
          str(folder / 'attention')], folder / 'attention.log')
    stored = json.loads(next(folder.glob(f'{name}*/**/results.json')).read_text())['summary']
    corrupted = stored['mPC_finished'] if stored['mPC'] is None else stored['mPC']
    with open(folder / 'attention/head_diversity.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    attention = {key: statistics.mean(float(row[key]) for row in rows) for key in (
        'adl', 'row_entropy', 'top_share', 'effective_tokens', 'head_similarity')}
    return dict(clean=stored['P'], corrupted=corrupted, **attention, **speed(model))


def speed(model: Path) -> dict:
    """Seconds of an iteration and of waiting for data, as the training logged them."""
    lines = [json.loads(line) for path in model.glob('*/vis_data/scalars.json')
             for line in path.read_text().splitlines()]
    logged = [line for line in lines if 'data_time' in line and 'loss' in line]
    return {key: statistics.median(line[key] for line in logged)
            for key in ('time', 'data_time') if logged}


def seconds_per_unit(model: str, out: Path, args: argparse.Namespace) -> float:
    """Of an epoch, or a hundred iterations, of the plain model, with as many beside it as later."""
    def probe(i: int) -> float:
        folder = out / 'probe' / model / str(i)
        run = Run(model, 'plain', i)
        began = time.time()
        train(run, 2, folder, args)
        logged = speed(folder / 'model')
        if not logged:  # too few iterations to be logged
            return (time.time() - began) / 2
        return logged['time'] * iterations(folder / 'model', FAMILIES[model].by_epoch)

    with ThreadPoolExecutor(args.jobs) as pool:
        return statistics.mean(pool.map(probe, range(args.jobs)))


def iterations(model: Path, by_epoch: bool) -> float:
    if not by_epoch:
        return 100
    lines = [json.loads(line) for path in model.glob('*/vis_data/scalars.json')
             for line in path.read_text().splitlines()]
    return max(line['iter'] for line in lines if 'data_time' in line and 'loss' in line) / 2


def plan(runs: list[Run], out: Path, args: argparse.Namespace) -> dict[str, int]:
    """Epochs (or hundreds of iterations) of each model; decided once, then kept."""
    stored = out / 'plan.json'
    if stored.exists():
        return json.loads(stored.read_text())
    models = list(dict.fromkeys(run.model for run in runs))
    if args.length:
        lengths = dict.fromkeys(models, args.length)
    else:
        began = time.time()
        units = {model: seconds_per_unit(model, out, args) for model in models}
        spent = time.time() - began
        lengths = {}
        for model in models:
            own = [run for run in runs if run.model == model]
            budget = (60 * args.budget - spent) * args.jobs / len(models) - OVERHEAD * len(own)
            length = math.floor(budget / (units[model] * sum(run.cost() for run in own)))
            lengths[model] = min(max(length, LENGTHS[0]), LENGTHS[1])
            say(f'{model}: {units[model]:.1f} s a unit, {len(own)} runs of {lengths[model]}')
    stored.write_text(json.dumps(lengths))
    return lengths


def execute(run: Run, length: int, out: Path, args: argparse.Namespace) -> dict:
    folder = out / run.model / run.variant.replace(' ', '_').replace('&', 'and') / str(run.seed)
    stored = folder / 'run.json'
    if stored.exists():
        return json.loads(stored.read_text())
    began = time.time()
    train(run, length, folder, args)
    record = dict(run._asdict(), length=length, **measure(run, folder, args),
                  seconds=time.time() - began)
    stored.write_text(json.dumps(record, indent=1))
    say(f'{run.model} {run.variant} seed {run.seed}: clean {record["clean"]:.2f}, '
        f'corrupted {record["corrupted"]:.2f}, {record["seconds"]:.0f} s')
    return record


COLUMNS = {'clean': 'clean', 'corrupted': 'corrupted', 'adl': 'ADL', 'row_entropy': 'entropy',
           'top_share': 'top 10 %', 'effective_tokens': 'tokens attended'}


def table(records: list[dict]) -> list[list[str] | None]:
    """Mean and standard deviation over seeds; difference to the plain model, paired by seed."""
    def cell(values: list[float], digits: int) -> str:
        spread = f' +- {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
        return f'{statistics.mean(values):.{digits}f}{spread}'

    rows: list[list[str] | None] = [
        ['model', 'variant', 'seeds', *COLUMNS.values(), 'clean - plain', 'corrupted - plain'],
        None]
    for model, variant in dict.fromkeys((r['model'], r['variant']) for r in records):
        own = {r['seed']: r for r in records if (r['model'], r['variant']) == (model, variant)}
        plain = {r['seed']: r for r in records if (r['model'], r['variant']) == (model, 'plain')}
        differences = ['' if variant == 'plain' or not own.keys() & plain.keys() else cell(
            [own[s][key] - plain[s][key] for s in own if s in plain], 2)
            for key in ('clean', 'corrupted')]
        rows.append([model, variant, str(len(own)), *(
            cell([r[key] for r in own.values()], 3 if key in ('adl', 'top_share') else 2)
            for key in COLUMNS), *differences])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', choices=FAMILIES, default=['fan_mini'])
    parser.add_argument('--variants', nargs='+', metavar='NAME',
                        help="such as plain 'TAP & ADL' 'ADL, lambda 0.1'; default: all")
    parser.add_argument('--seeds', type=int, default=3)
    length = parser.add_mutually_exclusive_group()
    length.add_argument('--budget', type=float, default=120., help='minutes of all together')
    length.add_argument('--length', type=int, help='epochs, or hundreds of iterations, of each')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time')
    parser.add_argument('--workers', type=int, default=1, help='processes that load data, each')
    parser.add_argument('--attention-images', type=int, default=50)
    parser.add_argument('--cfg-options', nargs='+', help='overrides of every training')
    parser.add_argument('--out', default='work_dirs/evidence', help='folder of results')
    args = parser.parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    runs = []
    for model in args.models:
        variants = args.variants or FAMILIES[model].configs
        known = FAMILIES[model].configs
        unknown = [v for v in variants if v.partition(', lambda ')[0] not in known]
        if unknown:
            parser.error(f'{model} has no variant {unknown[0]!r}: choose of {", ".join(known)}')
        runs += [(seed, Run(model, variant, seed)) for variant in variants
                 for seed in range(args.seeds)]
    runs = [run for _, run in sorted(runs, key=lambda pair: pair[0])]  # whole seeds first
    lengths = plan(runs, out, args)
    with ThreadPoolExecutor(args.jobs) as pool:
        records = list(pool.map(lambda run: execute(run, lengths[run.model], out, args), runs))
    (out / 'evidence.json').write_text(json.dumps(records, indent=1))
    print(format_table(table(records), text_columns=2))


if __name__ == '__main__':
    main()

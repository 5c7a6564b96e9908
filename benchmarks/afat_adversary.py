"""How much farther chosen patches move the features than random ones, by the adversary's objective.

Trains the model of a config once for each objective and seed, with the config's optimizers at a
constant rate, and measures on held-out images, in inference, the alignment loss (unweighted)
between clean images and images corrupted where the trained corruption model says, where it said
before training, and at random. The ratios say what the adversary has learned.
"""
import argparse
import copy
import json
import statistics
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner, set_random_seed

from mmrobust.apis import load_config
from mmrobust.models.image_range import image_range

CONFIG = Path(__file__).resolve().parents[1] / 'configs/fan_mini_afat_cifar10.py'


def dataloader(cfg: dict, images: int, seed: int) -> torch.utils.data.DataLoader:
    """The config's, on this many images, the same in every run, and without workers."""
    loader = dict(cfg, num_workers=0, persistent_workers=False)
    total = len(Runner.build_dataloader(loader).dataset)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(total, generator=generator)[:images].tolist()
    loader['dataset'] = dict(cfg['dataset'], indices=chosen)
    return Runner.build_dataloader(loader, seed=seed)


@torch.no_grad()
def distances(model: torch.nn.Module, initial: torch.nn.Module, loader,
              draws: int) -> dict[str, float]:
    """Mean distance over images and draws of the noise, by who chooses the patches.

    Args:
        initial: The corruption model before training.
    """
    alignment, trained = model.alignment, model.alignment.corruption
    corruptions = dict(chosen=trained, initial=initial, random=MODELS.build(dict(
        type='RandomPatchCorruption', ratio=trained.ratio, patch_size=trained.patch_size,
        fill=trained.fill)))
    tokens = []
    hooks = [block.register_forward_hook(lambda *args: tokens.append(args[2]))
             for block in alignment.aligned_blocks(model.backbone)]
    sums, count = dict.fromkeys(corruptions, 0.), 0
    for data in loader:
        images = model.data_preprocessor(data, False)['inputs']
        count += draws * len(images)
        for name, corruption in corruptions.items():
            for _ in range(draws):
                corrupted = corruption(images, *image_range(model.data_preprocessor))
                tokens.clear()
                model.backbone(torch.cat([corrupted, images]))
                sums[name] += alignment.distance(tokens).item() * len(images)
    for hook in hooks:
        hook.remove()
    return {name: total / count for name, total in sums.items()}


def run(cfg, objective: str, seed: int, args: argparse.Namespace) -> dict:
    """Train one model and measure it."""
    set_random_seed(seed)
    model = MODELS.build(dict(
        cfg.model, data_preprocessor=cfg.data_preprocessor,
        alignment=dict(cfg.model.alignment, objective=objective)))
    initial = copy.deepcopy(model.alignment.corruption)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    train = dataloader(cfg.train_dataloader, args.images, seed)
    norms = []
    for _ in range(args.epochs):
        for data in train:
            loss = model.train().train_step(data, wrapper)['loss'].item()
            norms.append(MessageHub.get_current_instance().get_scalar(
                'train/adversary_grad_norm').current())
    held_out = dataloader(cfg.val_dataloader, args.held_out, seed)
    model.eval()
    set_random_seed(seed)
    result = distances(model, initial, held_out, args.draws)
    correct = count = 0
    for data in held_out:
        predictions = model.val_step(data)
        correct += sum(int(p.pred_label == p.gt_label) for p in predictions)
        count += len(predictions)
    return dict(objective=objective, seed=seed, loss=loss, accuracy=100 * correct / count,
                gradient_norm=float(statistics.median(norms)), **result)


def table(records: list[dict]) -> str:
    """Markdown: mean and standard deviation over seeds."""
    def cell(values: list[float], digits: int = 3) -> str:
        spread = f' +- {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
        return f'{statistics.mean(values):.{digits}f}{spread}'

    lines = ['| objective | seeds | distance, random patches | chosen / random | '
             'initial / random | accuracy | gradient of the adversary |',
             '|---|---|---|---|---|---|---|']
    for objective in dict.fromkeys(r['objective'] for r in records):
        own = [r for r in records if r['objective'] == objective]
        lines.append('| ' + ' | '.join([
            objective, str(len(own)), cell([r['random'] for r in own]),
            *(cell([r[who] / r['random'] for r in own]) for who in ('chosen', 'initial')),
            cell([r['accuracy'] for r in own], 1),
            cell([r['gradient_norm'] for r in own], 1)]) + ' |')
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default=str(CONFIG))
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    parser.add_argument('--objectives', nargs='+', default=['alignment', 'total'])
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--epochs', type=int, default=3)
    parser.add_argument('--images', type=int, default=30000, help='of the training set')
    parser.add_argument('--held-out', type=int, default=1000, help='images of the validation set')
    parser.add_argument('--draws', type=int, default=3, help='of the noise')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--json', default='afat_adversary.json',
                        help='stores every run at once; the runs that it holds are not repeated')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    MMLogger.get_current_instance().setLevel('WARNING')
    cfg = load_config(args.config, args.cfg_options)
    stored = Path(args.json)
    records = json.loads(stored.read_text()) if stored.exists() else []
    done = {(r['objective'], r['seed']) for r in records}
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for seed in range(args.seeds):
            for objective in args.objectives:
                if (objective, seed) not in done:
                    records.append(run(cfg, objective, seed, args))
                    print(records[-1], flush=True)
                    stored.write_text(json.dumps(records, indent=1))
    print(table(records))


if __name__ == '__main__':
    main()

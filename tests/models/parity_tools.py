"""Building our models from parity fixtures of the authors' models."""
import json

import numpy as np
import torch

from mmrobust.models import FAN


def arrays(fixture, prefix: str) -> dict[str, torch.Tensor]:
    """The arrays below ``prefix::`` as tensors, keyed by what follows."""
    start = f'{prefix}::'
    return {k.removeprefix(start): torch.from_numpy(np.asarray(fixture[k]))
            for k in fixture.files if k.startswith(start)}


def meta(fixture) -> dict:
    return json.loads(str(fixture['meta']))


def to_ours(key: str) -> str:
    """The authors' key of a FAN backbone in our names."""
    return key.replace('dilation_predictor.proj', 'tap.predictor')


def build_fan(fixture, **kwargs) -> FAN:
    """Our FAN with the weights of a fixture; head weights are left out."""
    info = meta(fixture)
    args = info['kwargs']
    arch = dict(depths=(args['depth'],), embed_dims=(args['embed_dim'],),
                num_heads=(args['num_heads'],))
    if info['stem']:
        arch.update(patch_embed='hybrid', stem_depths=info['stem']['depths'],
                    stem_dims=info['stem']['dims'])
    else:
        arch.update(patch_embed='conv', patch_size=args['patch_size'])
    if info['kind'] == 'seg':
        kwargs.update(out_type='featmap', paired_frequencies=False)
        hybrid_index = args.get('out_idx', args['depth'] - 1)
        kwargs.setdefault('out_indices', (hybrid_index, -1) if info['stem'] else (4, 7, 11, -1))
    else:
        kwargs['out_type'] = 'cls_token'
    tap = dict(num_branches=args['num_scales']) if 'num_scales' in args else None
    model = FAN(arch=arch, tap=tap, **kwargs)
    weights = {to_ours(k): v for k, v in arrays(fixture, 'sd').items()
               if not k.startswith('head.')}
    model.load_state_dict(weights, strict=True)
    return model

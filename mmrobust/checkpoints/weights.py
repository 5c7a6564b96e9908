"""The weights in a checkpoint: where they lie, what they are called, whether a model may have them.

MMEngine copies what fits, warns of the rest and goes on. Here whatever would change a number is
refused instead.
"""
import logging
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

# entries under which training code keeps weights: the model's own, and their moving average
OWN = ('state_dict', 'model', 'model_state_dict', 'module', 'params', 'weights', 'net')
AVERAGE = ('state_dict_ema', 'model_ema', 'ema', 'params_ema')
# what wrappers put between the parts of a name: compilation, checkpointing, FSDP, DDP. Nobody
# else calls a part like the first three.
RESERVED = re.compile(r'(?:^|(?<=\.))(?:_orig_mod|_checkpoint_wrapped_module|'
                      r'_fsdp_wrapped_module)\.')
WRAPPERS = re.compile(RESERVED.pattern + r'|(?:^|(?<=\.))module\.')
# what only training uses, or nothing: other heads, objectives, losses, counters, index tables
UNUSED = re.compile(r'(auxiliary_head|alignment|diversification|augmentation)\.|'
                    r'(.*\.)?(loss\w*\.|num_batches_tracked$|total_(ops|params)$|'
                    r'relative_position_index$|relative_coords_table$|attn_mask$|position_ids$)')


def find_weights(checkpoint: Any, where: str = 'the checkpoint', kind: str = 'auto'
                 ) -> tuple[str, Mapping[str, Any]]:
    """The weights of a checkpoint and the name of the entry that holds them.

    Args:
        checkpoint: What the file holds: a dict with an entry for the weights, or the weights.
        where (str): What to call it in errors.
        kind (str): ``'model'``, ``'ema'`` (their moving average), or ``'auto'``: the model's own,
            else the average. Defaults to ``'auto'``.

    Returns:
        tuple[str, Mapping]: The entry, '' for the file itself, and the weights.

    Raises:
        ValueError: If it holds none.
    """
    if isinstance(checkpoint, nn.Module):
        checkpoint = checkpoint.state_dict()
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f'{where} holds a {type(checkpoint).__name__}, not a dictionary of '
                         'weights: name a checkpoint of a training')
    names = dict(auto=OWN + AVERAGE, model=OWN, ema=AVERAGE)[kind]
    for name in names:
        entry = checkpoint.get(name)
        if isinstance(entry, nn.Module):
            entry = entry.state_dict()
        if isinstance(entry, Mapping) and entry:
            if not any(isinstance(value, Tensor) for value in entry.values()):
                inner, weights = find_weights(entry, f"'{name}' of {where}", kind)
                return f'{name}.{inner}', weights
            return name, _with_names(entry, f"'{name}' of {where}")
    if kind != 'ema' and any(isinstance(value, Tensor) for value in checkpoint.values()):
        return '', _with_names(checkpoint, where)
    held = ', '.join(map(str, list(checkpoint)[:5])) or 'nothing'
    raise ValueError(f'{where} has no {"weights" if kind == "auto" else f"{kind} weights"} '
                     f'({", ".join(names)}): it holds {held}')


def _with_names(weights: Mapping, where: str) -> Mapping[str, Any]:
    for key in weights:
        if not isinstance(key, str):
            raise ValueError(f'{where} has a weight with the name {key!r}, which is no string: '
                             'write it with model.state_dict()')
    return weights


def check_values(weights: Mapping[str, Any], where: str = 'the checkpoint') -> None:
    """Make sure that weights are numbers that a model can compute with.

    Raises:
        ValueError: If some are not finite, or a variance is negative. Masks may be infinite.
    """
    bad = {name: problem for name, value in weights.items()
           if isinstance(value, Tensor) and (problem := _problem(name, value))}
    if bad:
        name, problem = next(iter(bad.items()))
        raise ValueError(f"{where} has unusable values in {len(bad)} of {len(weights)} weights "
                         f"and statistics, '{name}' ({problem}) first: its training has diverged "
                         'or the file is damaged, take an earlier one')


def _problem(name: str, value: Tensor) -> str | None:
    if not (value.is_floating_point() or value.is_complex()) or value.is_meta:
        return None
    dense = value.coalesce().values() if value.is_sparse else value
    if dense.element_size() == 1:  # float8 has no isfinite
        dense = dense.float()
    if not torch.isfinite(dense).all():
        if torch.isnan(dense).any():
            return 'NaN'
        if 'mask' not in name.rpartition('.')[2]:
            return 'infinite'
    if name.endswith('running_var') and not dense.is_complex() and (dense < 0).any():
        return 'a negative variance'
    return None


_READ: dict[str, frozenset] = {}  # what was read in this process, by its name in the config


def remember(filename: str, checkpoint: Any) -> None:
    """Keep of a checkpoint what :func:`shares_weights` asks for."""
    weights = checkpoint if isinstance(checkpoint, Tensor) else find_weights(checkpoint)[1]
    tensors = [weights] if isinstance(weights, Tensor) else weights.values()
    _READ[filename] = frozenset(filter(None, map(_trace, tensors)))


def shares_weights(model: nn.Module, filename: str) -> bool | None:
    """Whether any of a model's weights are those of a checkpoint that was read.

    Returns:
        bool, optional: None if that checkpoint was not read, or holds nothing to tell it by.
    """
    if not (traces := _READ.get(filename)):
        return None
    return any(_trace(value) in traces for value in model.state_dict().values())


def _trace(value: Any) -> tuple | None:
    """Shape and first numbers of a weight; None for those that are alike before training."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.numel() < 2:
        return None
    first = value.detach().flatten()[:16].float().cpu()
    return None if bool((first == first[0]).all()) else (tuple(value.shape), *first.tolist())


def tidy(checkpoint: Any, where: str) -> Any:
    """A checkpoint as MMEngine and the host libraries expect it.

    The weights lie under ``state_dict`` (those of a file that is nothing else stay where they
    are), without the names that compilation and parallel training leave, and their values are
    checked. A single tensor is left to whoever asked for it.

    Args:
        checkpoint: What the file holds.
        where (str): What to call it in errors.

    Raises:
        ValueError: If there are no weights, or unusable ones.
    """
    if isinstance(checkpoint, Tensor):
        return checkpoint
    source, weights = find_weights(checkpoint, where)
    check_values(weights, where)
    weights = _cleaned(weights, where)
    if not source:
        return weights
    if source != 'state_dict':
        print_log(f"the weights of {where} are those of its entry '{source}'", 'current')
    checkpoint = {**checkpoint, 'state_dict': weights}
    if isinstance(average := checkpoint.get('ema_state_dict'), Mapping):  # of MMEngine's EMAHook
        print_log(f'the weights of {where} are the moving average of its training', 'current')
        checkpoint['ema_state_dict'] = _cleaned(average, where, {})
    elif average := [name for name in AVERAGE if name in checkpoint and name != source]:
        print_log(f"{where} also holds a moving average, '{average[0]}', which is not used",
                  'current')
    return checkpoint


def _cleaned(weights: Mapping, where: str, wrappers: Mapping | None = None) -> OrderedDict:
    """Weights without what wrappers add to names, as far as that can be told without a model."""
    names = {key: RESERVED.sub('', key) for key in weights}
    while wrappers is None and all(name.startswith('module.') for name in names.values()):
        names = {key: name.removeprefix('module.') for key, name in names.items()}
    return _renamed(weights, names, where)


def _renamed(weights: Mapping, names: Mapping[str, str], where: str) -> OrderedDict:
    renamed = OrderedDict()
    for key, value in weights.items():
        name = names.get(key, key)
        if name in renamed and not _equal(renamed[name], value):
            raise ValueError(f"{where} has two different weights '{name}', one of them under "
                             f"'{key}': leave one out")
        renamed[name] = value
    metadata = getattr(weights, '_metadata', None)
    if metadata is not None:  # versions of the modules, by their names
        renamed._metadata = OrderedDict(
            (RESERVED.sub('', f'{key}.').removesuffix('.'), value)
            for key, value in metadata.items())
    return renamed


def _equal(a: Any, b: Any) -> bool:
    return a is b or isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)


def load_weights(model: nn.Module, checkpoint: Any, partial: bool = False,
                 where: str = 'the checkpoint', unused: Iterable[str] = ()) -> OrderedDict:
    """Give a model the weights of a checkpoint, all of them or none.

    The model itself says what fits, with the renaming and resizing that it does when it loads.
    All its parameters and all its buffers of floating point (such as batch-norm statistics) must
    be there; counters and index tables follow from the config. The checkpoint may have more
    weights only if no prediction depends on them.

    Args:
        model (nn.Module): The model.
        checkpoint: What :func:`tidy` returns.
        partial (bool): Load what fits, as fine-tuning does, as long as anything does.
            Defaults to False.
        where (str): What to call the checkpoint in errors.
        unused (Iterable[str]): Beginnings of names of further weights that may be left out.

    Returns:
        OrderedDict: The weights by the model's names.

    Raises:
        ValueError: If the checkpoint has no weights or unusable ones, or is of another
            architecture.
    """
    weights = find_weights(checkpoint, where)[1]
    entries = OrderedDict((name, value) for name, value in weights.items()
                          if isinstance(value, Tensor) or name.endswith('_extra_state'))
    entries._metadata = getattr(weights, '_metadata', OrderedDict())
    weights = entries
    check_values(weights, where)
    expected = model.state_dict()
    weights = _renamed(weights, _names_in(expected, weights), where)
    for name, value in weights.items():
        if name in expected and isinstance(value, Tensor) and (
                expected[name].is_floating_point() and not value.is_floating_point()):
            raise ValueError(f"'{name}' of {where} is of {value.dtype}, the model's of "
                             f'{expected[name].dtype}: quantised weights cannot be loaded')
    missing, surplus, unfit = _load(model, weights, where)
    missing = [name for name in missing if name not in expected or
               expected[name].is_floating_point()]
    absent = list(dict.fromkeys([*missing, *unfit]))
    surplus = [name for name in surplus if not name.startswith(tuple(unused))]
    relevant = {name for name, value in expected.items() if value.is_floating_point()}
    if absent and (not partial or relevant <= set(absent)):
        raise ValueError(
            f'{where} is of another architecture: {len(absent)} of {len(relevant)} weights and '
            f"statistics of the model are missing in it or have another shape, '{absent[0]}' "
            'first; use the config that it was trained with')
    refused = [name for name in surplus if not UNUSED.match(name)]
    if refused and not partial:
        part = refused[0].split('.')[0]
        raise ValueError(
            f'{where} is of another architecture: the model has no place for {len(refused)} of '
            f"its {len(weights)} weights, '{refused[0]}' first; use the config that it was "
            "trained with or, if no prediction needs them, say so in the config: custom_hooks = "
            f"[dict(type='CheckWeightsHook', unused=['{part}'])]")
    for names, problem in ((absent, 'new in the model, not from'), (surplus, 'left out of')):
        if names:
            print_log(f'{len(names)} weights are {problem} {where}: {", ".join(names[:3])}'
                      f'{", ..." if len(names) > 3 else ""}', 'current', logging.WARNING)
    return weights


def _names_in(expected: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, str]:
    """The model's name for each weight of a checkpoint, wrapped or not on either side."""
    bare: dict[str, list[str]] = {}
    for name in expected:
        bare.setdefault(WRAPPERS.sub('', name), []).append(name)

    def named(key: str) -> str:
        found = bare.get(WRAPPERS.sub('', key), [])
        return key if key in expected or len(found) != 1 else found[0]

    names = {key: named(key) for key in weights}
    # all below one more name, as in `model.` of Lightning
    prefix = next(iter(weights)).split('.')[0] + '.'
    if not any(name in expected for name in names.values()) and all(
            key.startswith(prefix) for key in weights):
        below = {key: named(key.removeprefix(prefix)) for key in weights}
        if any(name in expected for name in below.values()):
            return below
    return names


def _load(model: nn.Module, weights: OrderedDict, where: str
          ) -> tuple[list[str], list[str], list[str]]:
    """Names that are missing, that are too many, and that have another shape."""
    keys: list[list[str]] = []
    handle = model.register_load_state_dict_post_hook(
        lambda _, incompatible: keys.extend(map(list, incompatible)))
    problems = ''
    try:
        model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        problems = str(error)
    finally:
        handle.remove()
    if failed := re.search(r'While copying the (?:parameter|buffer) named .*', problems):
        raise ValueError(f'{where} cannot be loaded: {failed[0]}')
    missing, surplus = keys
    return missing, surplus, re.findall(r'size mismatch for (.+?): copying', problems)

"""What must be equal for results to belong together: weights, model, data, metric, protocol."""
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from .protocols import Protocol

# They change where files lie or how fast a run is, not what it computes.
IRRELEVANT = ('init_cfg', 'pretrained', 'work_dir', 'output_dir', 'submission_dir',
              'collect_device', 'lazy_init', 'serialize_data', 'persistent_workers')


def _relevant(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _relevant(value[key]) for key in value if key not in IRRELEVANT}
    if isinstance(value, (list, tuple)):
        return [_relevant(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, '__qualname__', type(value).__qualname__)


def digest(value: Any) -> str:
    """Digest of nested settings, independent of the order of their keys."""
    text = json.dumps(_relevant(value), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def weights_digest(model: torch.nn.Module) -> str:
    """Digest of a model's weights and buffers, whatever file they came from."""
    model = getattr(model, 'module', model)
    state = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        state.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        data = tensor.detach().cpu().contiguous().reshape(-1)
        state.update(data.view(torch.uint8).numpy())
    return state.hexdigest()


def fingerprint(model: torch.nn.Module, model_cfg: Any, dataset: Any, evaluator: Any,
                protocol: Protocol) -> dict[str, str]:
    """Digests of all that decides a result.

    Args:
        model (nn.Module): The model with the weights to be tested.
        model_cfg, dataset, evaluator: Their configs, and what else belongs to them.
        protocol (Protocol): The protocol; which of its cells are selected does not matter.
    """
    cells = [asdict(cell) for cell in protocol.cells]
    return dict(weights=weights_digest(model), model=digest(model_cfg), data=digest(dataset),
                evaluator=digest(evaluator), protocol=digest([cells, protocol.summary]))

"""Safe loading of checkpoints, and conversion between the authors' names of weights and ours."""
from .conversion import Conversion, from_official, to_official
from .latest import find_checkpoint, is_resumable, latest_checkpoint
from .loading import guard_loading, load_foreign, save_checkpoint
from .recognition import Recognition, recognise
from .weights import check_values, load_weights, shares_weights

__all__ = ['Conversion', 'Recognition', 'check_values', 'find_checkpoint', 'from_official',
           'guard_loading', 'is_resumable', 'latest_checkpoint', 'load_foreign', 'load_weights',
           'recognise', 'save_checkpoint', 'shares_weights', 'to_official']

"""Safe loading of checkpoints, and conversion between the authors' names of weights and ours."""
from .conversion import Conversion, from_official, to_official
from .loading import check_fit, guard_loading, load_foreign, save_checkpoint
from .recognition import Recognition, recognise

__all__ = ['Conversion', 'Recognition', 'check_fit', 'from_official', 'guard_loading',
           'load_foreign', 'recognise', 'save_checkpoint', 'to_official']

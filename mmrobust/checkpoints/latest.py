"""Which checkpoint of a work dir a training goes on from."""
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log

from mmrobust.utils.compat import safe_globals
from mmrobust.utils.files import is_absent, is_temporary

from .loading import allowed_objects, load_foreign

STEP = re.compile(r'\d+(?=\D*$)')


class Latest(NamedTuple):
    """A checkpoint that can be read.

    Attributes:
        path (str): The file.
        seed (int | None): Seed of the run that wrote it.
        skipped (list[str]): One sentence for each that was to be taken and cannot be read.
        newer_than (str | None): The one that ``last_checkpoint`` names, if it is older.
    """
    path: str
    seed: int | None
    skipped: list[str]
    newer_than: str | None = None

    @property
    def reasons(self) -> list[str]:
        """Why it is not the one that ``last_checkpoint`` names."""
        return self.skipped or ([] if self.newer_than is None else [
            f"it is newer than '{self.newer_than}', which last_checkpoint names"])


def latest_checkpoint(folder: str | Path, trust: bool = False) -> Latest | None:
    """The newest readable checkpoint of a training.

    ``last_checkpoint`` names it: the file of that name in the folder, even if the folder was
    copied and the path leads elsewhere, else the one at the path. A newer one in either folder
    that a training can go on from goes before it: a kill may have come between the checkpoint and
    its name. Where the named one cannot be read, it is the newest of the others.

    Args:
        folder (str | Path): Work dir.
        trust (bool): As of :func:`load_foreign`.

    Returns:
        Latest | None: None if nothing was ever saved there.

    Raises:
        ValueError: If there are checkpoints, and none can be read.
    """
    folder, skipped = Path(folder), []
    named = _named(folder)
    for path in _candidates(folder, named):
        if path.is_dir():  # of DeepSpeed, which reads it itself
            return Latest(str(path), None, skipped)
        try:
            checkpoint = load_foreign(path, trust)
        except (ValueError, OSError) as error:
            skipped.append(str(error))
            continue
        if path == named or is_resumable(checkpoint):
            meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
            older = path != named and not skipped and named is not None and named.exists()
            return Latest(str(path), (meta or {}).get('seed'), skipped,
                          str(named) if older else None)
    if skipped:
        raise ValueError(f"no checkpoint in '{folder}' can be read: {'; '.join(skipped)}. Remove "
                         'them to start from the beginning')
    return None


def is_resumable(checkpoint: Any) -> bool:
    """Whether a training can go on from it, rather than only start from its weights."""
    return isinstance(checkpoint, Mapping) and {'meta', 'state_dict', 'message_hub',
                                                'optimizer'} <= checkpoint.keys()


def _named(folder: Path) -> Path | None:
    """What ``last_checkpoint`` names."""
    try:
        text = (folder / 'last_checkpoint').read_text('utf-8').strip().strip('\0')
    except (OSError, UnicodeDecodeError):
        return None
    if not text:
        return None
    path = Path(text)
    return folder / path.name if (folder / path.name).exists() else path


def _candidates(folder: Path, named: Path | None) -> Iterator[Path]:
    """The named file if it is there, after those that are newer; then the others, newest first."""
    folders = {folder, named.parent if named is not None and named.parent.is_dir() else folder}
    others = [path for each in folders for path in each.glob('*.pth')
              if path != named and not path.name.startswith('best_')
              and not is_temporary(path.name)]
    others.sort(key=_age, reverse=True)
    if named is not None and named.exists():
        age = _age(named)
        newer = [] if named.is_dir() or not age[0] else [p for p in others if _age(p) > age]
        yield from newer
        yield named
        others = others[len(newer):]
    yield from others


def _age(path: Path) -> tuple:
    """When a checkpoint was written, as it says itself: copying a folder changes other times."""
    step = STEP.search(path.stem)
    try:
        with safe_globals(allowed_objects()):
            # without its tensors
            meta = torch.load(str(path), map_location='meta', weights_only=True, mmap=True)['meta']
        return str(meta['time']), int(meta['iter'])
    except Exception:  # damaged bytes can raise anything
        return '', int(step.group()) if step else -1


def find_checkpoint(path: str) -> str:
    """The checkpoint at ``path``, or the last one of a work dir.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = path
    if Path(path).is_dir():
        latest = latest_checkpoint(path)
        found = latest and latest.path
        for reason in latest.reasons if latest else ():
            print_log(f"Taking '{found}', because {reason}", 'current', logging.WARNING)
    if found is None or is_absent(found):
        raise FileNotFoundError(f"there is no checkpoint at '{path}': name a .pth file, or the "
                                'work dir of a training')
    return found

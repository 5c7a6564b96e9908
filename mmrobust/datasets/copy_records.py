"""What a folder of corrupted copies was made of and how, so that it never mixes two kinds."""
import hashlib
import json
import os
from pathlib import Path

from mmrobust.corruptions.signature import signature
from mmrobust.utils.files import write_text_atomically

from .images import shown

SETTINGS = 'settings.json'
SOURCES = 'sources.json'


def copy_settings(folder: str) -> dict:
    """How ``write_corrupted_copies`` made a folder; empty for one of another origin."""
    return _read_json(Path(folder) / SETTINGS)


def other_corruptions(made: dict) -> list[str]:
    """The cells (``type/severity``) of a folder whose corruptions give other pixels here and now.

    Args:
        made (dict): What :func:`copy_settings` returns.
    """
    return [cell for cell, made_with in made.get('signatures', {}).items()
            if made_with != _signature(cell, made.get('family', 'imagenet'))]


def _signature(cell: str, family: str) -> str | None:
    name, _, severity = cell.partition('/')
    try:
        return signature(name, int(severity), family)
    except ValueError:  # a corruption that this version does not have
        return None


def check_settings(target: Path, settings: dict, cells: list[tuple[str, int]],
                   kept: set[tuple[str, int]]) -> None:
    """Compare with how a target was begun, and note what is added to it.

    Args:
        target (Path): The folder.
        settings (dict): Options that apply to all copies.
        cells (list[tuple[str, int]]): Types and severities that are to be there.
        kept (set[tuple[str, int]]): Those of which copies are there.

    Raises:
        ValueError: If it was begun with other settings or another version of the corruptions.
    """
    signatures = {f'{name}/{severity}': signature(name, severity, settings['family'])
                  for name, severity in cells}
    begun = _read_json(target / SETTINGS)
    made = begun.pop('signatures', {})
    if begun and begun != settings:
        raise ValueError(f'{target} was begun with {begun}, not with {settings}: use those '
                         'settings or another folder.')
    other = [cell for name, severity in cells if (name, severity) in kept
             and made.get(cell := f'{name}/{severity}') != signatures[cell]]
    if other:
        raise ValueError(
            f'the copies in {shown(target / other[0])} were made by another version of the '
            'corruptions, whose pixels differ or are not known: remove them, or name another '
            'target.')
    made = dict(sorted({**made, **signatures}.items()))
    write_text_atomically(target / SETTINGS,
                          json.dumps({**settings, 'signatures': made}, indent=2))


class Sources:
    """What the copies of a target were made of: size, time of change and digest of each image.

    Args:
        source (str): The folder of the images.
        target (str): The folder of the copies.
    """

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.path = Path(target, SOURCES)
        self.known = _read_json(self.path)

    def check(self, made: list[tuple[str, list[str]]]) -> None:
        """Make sure that images are still those of which the given copies were made.

        Raises:
            ValueError: If one has changed.
        """
        for image, copies in made:
            path = os.path.join(self.source, image)
            state = os.stat(path)
            if image in self.known:
                size, changed, digest = self.known[image]
                same = [size, changed] == [state.st_size, state.st_mtime_ns] or (
                    size == state.st_size and digest == content_digest(Path(path).read_bytes()))
            else:  # its run was killed before it could note the digest
                same = all(state.st_mtime_ns <= os.stat(os.path.join(self.target, copy)).st_mtime_ns
                           for copy in copies)
                if same:
                    self.add(image, content_digest(Path(path).read_bytes()))
            if not same:
                raise ValueError(
                    f'{shown(path)} has changed since its copies were made, such as '
                    f'{shown(os.path.join(self.target, copies[0]))}: remove them, or name another '
                    'target.')

    def add(self, image: str, digest: str) -> None:
        """Note an image of which copies were made."""
        state = os.stat(os.path.join(self.source, image))
        self.known[image] = [state.st_size, state.st_mtime_ns, digest]

    def write(self) -> None:
        """Keep what was noted, beside what others noted meanwhile."""
        if self.known:
            known = {**_read_json(self.path), **self.known}
            write_text_atomically(self.path, json.dumps(known, indent=0, sort_keys=True))


def content_digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _read_json(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text('utf-8'))
        if isinstance(content, dict):
            return content
    except ValueError:
        pass
    raise ValueError(f'{shown(path)} is damaged: remove the folder and make the copies again.')

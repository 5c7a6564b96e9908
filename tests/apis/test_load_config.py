"""Configs that cannot be read, and who is to blame."""
import os

import pytest
from mmengine.config import Config

from mmrobust.apis import load_config


@pytest.mark.parametrize('links', [
    {'a': 'a'}, {'a': 'b', 'b': 'a'}, {'a': 'b', 'b': 'c', 'c': 'b'}])
def test_bases_in_a_circle_are_named_at_once(tmp_path, monkeypatch, links):
    opened = []
    for name, base in links.items():
        (tmp_path / f'{name}.py').write_text(f"_base_ = './{base}.py'\n")
    original = Config._substitute_predefined_vars
    monkeypatch.setattr(Config, '_substitute_predefined_vars', staticmethod(
        lambda *args: opened.append(args) or original(*args)))
    with pytest.raises(ValueError, match='based on it in turn'):
        load_config(str(tmp_path / 'a.py'))
    assert len(opened) == len(links)


def test_two_configs_may_share_a_base(tmp_path):
    (tmp_path / 'a.py').write_text('x = 1\n')
    (tmp_path / 'b.py').write_text("_base_ = 'a.py'\ny = _base_.x\n")
    (tmp_path / 'c.py').write_text("_base_ = ['b.py']\nz = _base_.y\n")
    assert load_config(str(tmp_path / 'c.py')).z == 1


@pytest.mark.parametrize('kind', ['a folder', 'no regular file'])
def test_what_is_no_file_is_called_what_it_is(tmp_path, kind):
    path = tmp_path / 'a.py'
    path.mkdir() if kind == 'a folder' else os.mkfifo(path)
    with pytest.raises(FileNotFoundError, match=f"a.py' is {kind}, not a config"):
        load_config(str(path))


def test_an_error_in_a_base_names_the_base(tmp_path):
    (tmp_path / 'base.py').write_text('a = 1\nx = (\n')
    (tmp_path / 'a.py').write_text("\n\n_base_ = 'base.py'\n")
    with pytest.raises(ValueError, match=r"base '.*base.py', line 2: .* never closed: correct"):
        load_config(str(tmp_path / 'a.py'))
    (tmp_path / 'base.py').write_text('a = 1\n\nx = 1 / 0\n')
    with pytest.raises(ValueError, match="base.py', line 3"):
        load_config(str(tmp_path / 'a.py'))

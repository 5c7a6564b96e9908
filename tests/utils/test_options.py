"""KEY=VALUE options of the command line."""
import argparse

import pytest

from mmrobust.utils.options import Overrides


def parse(*texts):
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='+', action=Overrides)
    return parser.parse_args(['--options', *texts]).options


@pytest.mark.parametrize('text,value', [
    ('a=1', 1), ('a=1e-3', 1e-3), ('a=None', None), ('a=x', 'x'), ('a=', ''), ('a=[1,2]', [1, 2]),
    ('a=(1,2)', (1, 2)), ('a=1,x', [1, 'x']), ('a=b=c', 'b=c'),
    ("a=[dict(type='X', n=[1, dict(m=-2)])]", [dict(type='X', n=[1, dict(m=-2)])]),
    ("a={'b': (1, None)}", dict(b=(1, None))),
    ('a=/my data/of  years', '/my data/of  years'), ('a=1 2', '1 2'), ('a= 5 ', 5),
    ('a=[my data, 2]', ['my data', 2]), ("a=('x y', (1, 'a b'))", ('x y', (1, 'a b'))),
])
def test_values(text, value):
    assert parse(text) == dict(a=value)


@pytest.mark.parametrize('text', [
    'foo', '=1', 'a..b=1', 'a=[1', 'a=1)', "a=[dict(type='X')", 'a=dict(1)', 'a=dict(b=c)',
    "a=dict(b=__import__('os'))", '', 'a={'])
def test_mistakes_end_in_usage(capsys, text):
    with pytest.raises(SystemExit) as ended:
        parse(text)
    assert ended.value.code == 2
    assert '--options: ' in capsys.readouterr().err

"""Options of the command line that are more than one word."""
import argparse
import ast
import re
from typing import Any

INNER_BLANK, KEPT = re.compile(r'(?<=[^,\[\]()]) (?=[^,\[\]()])'), '\0'


class Overrides(argparse.Action):
    """MMEngine's ``KEY=VALUE`` options, with dicts as values and mistakes that are named.

    A value that holds ``dict(...)`` or ``{...}`` is read as Python, everything else as MMEngine
    does.
    """

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
                 values: Any, option_string: str | None = None) -> None:
        options = dict(getattr(namespace, self.dest, None) or {})
        for text in values or ():
            key, equals, value = text.partition('=')
            if not equals or not all(key.split('.')):
                parser.error(f"{option_string}: '{text}' is not of the form KEY=VALUE: write a "
                             'key, = and its value, without blanks around =')
            try:
                options[key] = parse_value(value)
            except (AssertionError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
                parser.error(f"{option_string}: the value of '{text}' cannot be read "
                             f'({error or type(error).__name__}): write a number, a word, '
                             '[a,b], (a,b) or dict(a=1)')
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """The value that a text on the command line stands for.

    Raises:
        ValueError, SyntaxError, AssertionError: If it stands for none.
    """
    if 'dict(' in text or '{' in text:
        return _evaluate(ast.parse(text.strip(), mode='eval').body)
    from mmengine.config import DictAction  # help is there without MMEngine

    # it drops all blanks: '/my data' would be another folder, and '1 2' the number 12
    value = DictAction._parse_iterable(INNER_BLANK.sub(KEPT, text.strip()))
    value = _restored(value)
    _refuse_calls(value)
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_restored, value))
    return value.replace(KEPT, ' ') if isinstance(value, str) else value


def _evaluate(node: ast.AST) -> Any:
    """A literal, in which ``dict(key=value)`` is one as well."""
    if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'dict' and not node.args:
        return {item.arg: _evaluate(item.value) for item in node.keywords}
    if isinstance(node, (ast.List, ast.Tuple)):
        return (list if isinstance(node, ast.List) else tuple)(map(_evaluate, node.elts))
    if isinstance(node, ast.Dict):
        return {_evaluate(key): _evaluate(value)
                for key, value in zip(node.keys, node.values, strict=True)}
    return ast.literal_eval(node)


def _refuse_calls(value: Any) -> None:
    if isinstance(value, (list, tuple)):
        for item in value:
            _refuse_calls(item)
    elif isinstance(value, str) and (
            value.count('('), value.count('[')) != (value.count(')'), value.count(']')):
        raise ValueError('brackets do not match')

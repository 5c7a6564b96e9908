"""Telling mistakes of input from defects of ours, and saying the first in one sentence.

Three kinds of exceptions end a tool:

* one that our code raises on purpose, with a sentence: it is shown as it stands;
* one that foreign input causes somewhere, noticed by chance: the places that read such input are
  inside :func:`reading`, which turns it into an :class:`InputError` that names the input. What a
  library raises elsewhere is taken for such a mistake as well;
* anything else, so what Python raises in a line of ours, is a defect of ours and looks like one.
"""
import dis
import errno
import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

# what our own code raises for mistakes of input
EXPECTED = (ImportError, LookupError, NotImplementedError, OSError, TypeError, ValueError)
PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
LIBRARIES = tuple({os.path.realpath(path) + os.sep for name, path in sysconfig.get_paths().items()
                   if name in ('stdlib', 'platstdlib', 'purelib', 'platlib')})

WRONG_KEY = re.compile(r"(\w+)(?:\.__init__)?\(\) (?:got an unexpected keyword argument '(\w+)'|"
                       r"missing \d+ required .*arguments?: (.*))")
UNKNOWN_TYPE = re.compile(r'(\S+) is not in the (?:\S+::)?(.+?) registry')
TWICE = re.compile(r"got multiple values for (?:keyword )?argument '(\w+)'")
NO_TYPE = re.compile(r'must contain the key "type", but got (.*)')
BUILT_CLASS = re.compile(r'^class `\w+` in \S+: ')  # what some versions of MMEngine put before
FRAME = re.compile(r'^  File "(.*)", line \d+.*$', re.MULTILINE)
NO_MEMORY = re.compile(r'out of memory|not enough memory|can.t allocate memory|'
                       r'Unable to allocate', re.IGNORECASE)
WORKER_DIED = re.compile(r'DataLoader worker \(pid(?:\(s\))? [^)]*\) (.*)')
LONGEST = 2000  # characters of a message that are looked at; patterns take the square of it
OS_REMEDIES = {
    errno.EACCES: 'allow this user to use it, or choose another path',
    errno.EPERM: 'allow this user to use it, or choose another path',
    errno.EROFS: 'choose a place that can be written',
    errno.ENOENT: 'check the path',
    errno.EISDIR: 'name a file',
    errno.ENOTDIR: 'a file stands where a folder is needed, choose another path',
    errno.EEXIST: 'a file stands where a folder is needed, choose another path',
    errno.ENAMETOOLONG: 'choose a shorter name',
    errno.ENOSPC: 'make room, then run the same command again',
    errno.EDQUOT: 'make room, then run the same command again',
    errno.EMFILE: 'raise the limit with `ulimit -n`, or use fewer workers',
    errno.ELOOP: 'correct the symbolic links',
}


class InputError(ValueError):
    """A mistake of input that was not foreseen one by one; its cause holds the traceback."""


@contextmanager
def reading(what: str, remedy: str = 'correct it', running: bool = False) -> Iterator[None]:
    """Let whatever goes wrong inside be a mistake of the input that is read.

    What our code states on purpose passes unchanged, and so does a lack of memory or space.

    Args:
        what (str): The input, such as ``"the config 'x.py'"``.
        remedy (str): What to do about it.
        running (bool): Whether work goes on inside, beyond reading. An error that Python itself
            raises in a line of ours then stays a defect, unless something was being built.

    Raises:
        InputError: Instead of any other exception.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, GeneratorExit)) or _passes(error) \
                or running and (is_defect(error) or not isinstance(error, Exception)):
            raise
        raise InputError(f'{what}: {explain(error, what)}: {remedy}') from error


def is_stated(error: BaseException) -> bool:
    """Whether an exception was raised on purpose, with a sentence, by us or by the user's code."""
    root = _root(error)
    if not isinstance(root, EXPECTED) or not _text(root) or _text(root).startswith('[Errno'):
        return False
    origin = _origin(root)
    return _is_own_kind(root) or origin is not None and origin.raised \
        and not _is_foreign(origin.path)


def _passes(error: BaseException) -> bool:
    """Whether an exception already says all about an input, or is none of its fault."""
    origin = _origin(_root(error))
    ours = origin is not None and origin.path.startswith(PACKAGE)
    return isinstance(error, BrokenPipeError) or of_machine(error) is not None or is_stated(
        error) and (
        ours or _is_own_kind(_root(error)))


def _is_own_kind(error: BaseException) -> bool:
    return type(error).__module__.partition('.')[0] == 'mmrobust'


def sentence(error: BaseException) -> str | None:
    """What to say of a mistake; nothing if it is a defect."""
    root = _root(error)
    if is_stated(error):
        worker = _in_worker(root)
        return worker.message if worker else BUILT_CLASS.sub('', _message(root))
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the module '{error.name}' cannot be found: install it, or correct its name"
    if said := of_machine(error):
        return said
    if isinstance(error, TypeError) and (match := TWICE.search(_text(error))):
        return (f"'{match[1]}' is no KEY=VALUE option, or is given twice: use the command line's "
                'own option for it')
    origin = _origin(error)
    if origin is None or not _is_foreign(origin.path) and not _is_reading(error):
        return None
    # a library that we called does not like what it was given
    return f'{explain(error)}: correct what was given; report it if that is right'


def is_defect(error: BaseException) -> bool:
    """Whether Python itself raised it in a line of ours, while no input was read."""
    origin = _origin(error)
    return origin is not None and origin.path.startswith(PACKAGE) and not _is_reading(error)


def of_machine(error: BaseException) -> str | None:
    """The sentence for what the machine lacks: memory, space, a file, a library."""
    text = _text(error)
    if isinstance(error, MemoryError) or (
            isinstance(error, RuntimeError) and NO_MEMORY.search(text)):
        return ('out of memory: take smaller batches, crops or images, or fewer workers'
                f'{f" ({_first_line(text)})" if text else ""}')
    if isinstance(error, RuntimeError) and (match := WORKER_DIED.search(text)):
        return (f'a process that loads data {match[1].rstrip(".").strip()}: it may lack memory '
                '(try fewer num_workers), or a file or library made it crash (num_workers=0 shows '
                'where)')
    if type(error).__name__ == 'BrokenProcessPool':
        return ('a worker process was killed: it may lack memory (try fewer workers), or a file '
                'made it crash')
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        remedy = OS_REMEDIES.get(error.errno)
        if error.filename is not None:
            return (f"'{_shown(error.filename)}': {error.strerror}: "
                    f'{remedy or "check the path"}')
        return f'{error.strerror}: {remedy}' if remedy else None
    return None


def explain(error: BaseException, what: str = '') -> str:
    """What went wrong, in a few words without a traceback.

    Args:
        error (BaseException): The exception.
        what (str): The input in quotes; a line of that file is named.
    """
    root = _root(error)
    if (worker := _in_worker(root)) is not None:
        return worker.message.rstrip('.')
    message = _message(root)
    while match := BUILT_CLASS.match(message):
        message = message[match.end():]
    if match := UNKNOWN_TYPE.search(message):
        return _unknown_type(*match.groups())
    if match := NO_TYPE.search(message):
        return f'a type is missing in {match[1][:80]}'
    cls = _building(error)
    if isinstance(root, TypeError) and (match := WRONG_KEY.search(message)):
        return _wrong_key(cls or _class_named(root, match[1]), *match.groups())
    if sentence := of_machine(root):
        message = sentence
    elif isinstance(root, KeyError):
        message = _first_line(message) if ' ' in message else f"there is no '{message}'"
    elif isinstance(root, RecursionError):
        message = 'it refers to itself, or is nested too deeply'
    elif not isinstance(root, (ValueError, OSError)) or not message:
        message = f'{type(root).__name__}: {_first_line(message)}'.rstrip(': ')
    else:
        message = _first_line(message)
    name = getattr(cls, '__name__', '') or _what_is_read(error)
    place = f'{name}: ' if name and name not in message else ''
    return f'{place}{_line_of(error, what)}{message.rstrip(".").strip()}'


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception of somebody else's that is broken itself
        return ''


def _message(error: BaseException) -> str:
    text = _text(error)
    if isinstance(error, KeyError) and error.args:
        text = str(error.args[0])
    elif isinstance(error, SyntaxError) and error.msg:
        text = error.msg  # without the file, which may be a temporary one
    return text[:LONGEST]


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[0][:300] if lines else ''


def _shown(name: Any) -> str:
    """A file name as it can be printed."""
    return os.fsdecode(name).encode('utf-8', 'backslashreplace').decode() if isinstance(
        name, (str, bytes)) else str(name)


def _root(error: BaseException) -> BaseException:
    """The exception itself, or the one that MMEngine's registries raised again with more text."""
    while not error.__suppress_context__ and error.__context__ is not None \
            and type(error.__context__) is type(error) \
            and _text(error.__context__) and _text(error).endswith(_text(error.__context__)):
        error = error.__context__
    return error


class _Origin(NamedTuple):
    """The file in which an exception arose, and whether a `raise` statement did it."""
    path: str
    raised: bool


def _origin(error: BaseException) -> _Origin | None:
    if (worker := _in_worker(error)) is not None:
        return _Origin(os.path.realpath(worker.path), worker.line.startswith('raise '))
    *_, last = [*_frames(error)] or [None]
    if last is None:
        return None
    code = last.tb_frame.f_code
    return _Origin(os.path.realpath(code.co_filename),
                   dis.opname[code.co_code[last.tb_lasti]] == 'RAISE_VARARGS')


def _is_foreign(path: str) -> bool:
    """Whether a file belongs to an installed library other than ours, or to Python."""
    return not path.startswith(PACKAGE) and (path.startswith(LIBRARIES) or '/<' in path)


def _frames(error: BaseException) -> Iterator[TracebackType]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _building(error: BaseException) -> Any:
    """The innermost class that MMEngine was building from a config, if any."""
    found = None
    for step in _frames(_root(error)):
        if step.tb_frame.f_code.co_name == 'build_from_cfg':
            found = step.tb_frame.f_locals.get('obj_cls', found)
    return found


def _what_is_read(error: BaseException) -> str:
    """What MMEngine or torch read, or a model of the config was given, if it was that."""
    for step in _frames(error):
        code, values = step.tb_frame.f_code, step.tb_frame.f_locals
        if code.co_name == 'load_checkpoint' and 'mmengine' in code.co_filename:
            return f"the checkpoint '{values.get('filename')}'"
        if code.co_name == 'fetch' and code.co_filename.endswith('fetch.py'):
            return 'the data'
        if code.co_name == '_call_impl' and 'torch' in code.co_filename:
            return 'the model'
    return ''


def _is_reading(error: BaseException) -> bool:
    """Whether it arose while something was built from a config or ran in it, or was read."""
    return _in_worker(error) is not None or _building(error) is not None \
        or bool(_what_is_read(error))


def _line_of(error: BaseException, what: str) -> str:
    """The line of the input, where that is a Python file that ran, or of a base of a config."""
    match = re.search(r"'(.+\.(?:py|json|ya?ml))'", what)
    if not match:
        return ''
    named = os.path.realpath(match[1])
    name = _config_read(error) or named
    lines = [step.tb_lineno for step in _frames(error)
             if os.path.realpath(step.tb_frame.f_code.co_filename) == name]
    if isinstance(error, SyntaxError) and error.lineno:
        lines = [error.lineno]
    line = f'line {lines[-1]}' if lines else ''
    base = f"its base '{name}'" if name != named else ''
    place = ', '.join(filter(None, (base, line)))
    return f'{place}: ' if place else ''


def _config_read(error: BaseException) -> str | None:
    """The file that MMEngine was reading, of a config and its bases."""
    found = None
    for step in _frames(error):
        if step.tb_frame.f_code.co_name in ('_file2dict', '_parse_lazy_import'):
            found = step.tb_frame.f_locals.get('filename')
    return found and os.path.realpath(found)


class _Worker(NamedTuple):
    """What a worker process handed on as text: where it failed, and the message."""
    path: str
    line: str
    message: str


def _in_worker(error: BaseException) -> _Worker | None:
    """Where and why a worker of a data loader or a pool failed, if it was one."""
    text = _text(error)
    if type(error.__cause__).__name__ == '_RemoteTraceback':
        text = _text(error.__cause__).strip().strip('"')
    elif 'Traceback (most recent call last)' not in text:
        return None
    *_, last = FRAME.finditer(text) if FRAME.search(text) else [None]
    if last is None:
        return None
    after = text[last.end():].splitlines()
    line = after[1].strip() if len(after) > 1 else ''
    message = _first_line('\n'.join(row for row in after[1:] if not row.startswith('  ')))
    # sentences stand for themselves; other errors keep the name of their kind
    kind, _, rest = message.partition(': ')
    if rest and kind.rsplit('.', 1)[-1] in ('ValueError', 'FileNotFoundError', 'OSError',
                                            'ImageDecodeError', 'InputError', 'KeyError'):
        message = rest
        if kind == 'KeyError':
            message = rest.strip('"\'')
            message = message if ' ' in message else f"there is no '{message}'"
    return _Worker(last[1], line, message)


def nearest(name: str, known: Any) -> str:
    """'did you mean ...' for a misspelt name, or nothing."""
    near = get_close_matches(name, list(known), n=2)
    return f', did you mean {" or ".join(near)}' if near else ''


def _unknown_type(name: str, kind: str) -> str:
    from mmengine import registry as registries

    known: set[str] = set()
    for registry in vars(registries).values():
        if isinstance(registry, registries.Registry) and registry.name == kind.strip():
            known.update(registry.module_dict)
            for child in registry.children.values():
                known.update(child.module_dict)
    kind = kind.strip().replace('_', ' ')
    return f"there is no {kind} '{name}'{nearest(name.rsplit('.', 1)[-1], known)}"


def _class_named(error: BaseException, name: str) -> Any:
    """What the code that called a class in vain knew by that name."""
    *_, last = [*_frames(error)] or [None]
    return last and last.tb_frame.f_globals.get(name)


def _wrong_key(cls: Any, name: str, unknown: str | None, missing: str | None) -> str:
    if not unknown:
        return f'{name} needs {missing}'
    known: list[str] = []
    if getattr(cls, '__name__', None) == name:
        try:
            known = list(inspect.signature(cls).parameters)
        except (TypeError, ValueError):
            pass
    return f"{name} takes no '{unknown}'{nearest(unknown, known)}"


def traceback_to_screen() -> bool:
    """Whether the user asked for tracebacks (`--debug` or MMROBUST_TRACEBACK=1)."""
    return bool(os.environ.get('MMROBUST_TRACEBACK')) or '--debug' in sys.argv

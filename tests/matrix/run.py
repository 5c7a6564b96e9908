#!/usr/bin/env python
"""Run the suite in each of the environments that mmrobust supports.

    python tests/matrix/run.py                       # all; `make test-matrix` does this
    python tests/matrix/run.py torch-2.1 -- -x tests/ops
    python tests/matrix/run.py --only-build

Each environment is made by pip in its own folder, with the Python that goes with its torch, and
kept for the next time. The results are printed as the table of docs/compatibility.md, and written
to results.json beside the environments.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
# environment -> versions of Python that it can be made with, the preferred one first
ENVIRONMENTS = {
    'newest': ('3.13', '3.12', '3.11'),
    'torch-2.5': ('3.11', '3.12', '3.10'),
    'torch-2.1': ('3.10', '3.11'),
    'oldest': ('3.10', '3.11'),
}
ORIGINALS = ('torch-2.5', 'torch-2.1', 'oldest')
TEST_TOOLS = ('pytest', 'pytest-xdist', 'hypothesis', 'tensorboard', 'shtab')
SHOWN = ('torch', 'numpy', 'opencv-python', 'mmengine', 'onedl-mmengine', 'mmcv', 'mmcv-lite',
         'onedl-mmcv', 'mmsegmentation', 'onedl-mmsegmentation', 'mmpretrain',
         'onedl-mmpretrain', 'mmdet', 'onedl-mmdetection')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('environments', nargs='*', metavar='ENVIRONMENT',
                        help=f'default: {" ".join(ENVIRONMENTS)}')
    parser.add_argument('--root', type=Path, default=REPOSITORY / '.matrix',
                        help='folder of the environments (default: .matrix)')
    parser.add_argument('--mmcv', choices=('lite', 'build', 'wheel'), default='lite',
                        help="the originals' mmcv: mmcv-lite with a stand-in for the operators "
                        '(default), built from source, or whatever wheel pip finds')
    parser.add_argument('--only-build', action='store_true', help='make the environments only')
    arguments = sys.argv[1:]
    split = arguments.index('--') if '--' in arguments else len(arguments)
    args, tests = parser.parse_args(arguments[:split]), arguments[split + 1:]
    if unknown := set(args.environments) - set(ENVIRONMENTS):
        parser.error(f'{", ".join(unknown)}: choose from {", ".join(ENVIRONMENTS)}')
    results = {}
    for name in args.environments or ENVIRONMENTS:
        python = build(name, args.root / name, args.mmcv)
        if not args.only_build:
            results[name] = test(python, args.root / f'{name}.xml', tests)
            args.root.joinpath('results.json').write_text(json.dumps(results, indent=1))
    if results:
        print(table(results))
    return int(any(r['failed'] or not r['passed'] for r in results.values()))


def build(name: str, folder: Path, mmcv: str) -> Path:
    """The Python of an environment, which is made if it is not complete."""
    python = folder / 'bin' / 'python'
    stamp = folder / '.complete'
    wanted = '\n'.join(path.read_text() for path in sorted(HERE.glob('*.txt'))) + mmcv
    if not (stamp.exists() and stamp.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.check_call([interpreter(ENVIRONMENTS[name]), '-m', 'venv', folder])
        install(python, '-r', HERE / f'{name}.txt', *TEST_TOOLS)
        if name in ORIGINALS:
            install_mmcv(python, mmcv)
        stamp.write_text(wanted)
    # plain: the libraries of the environment must stay as they are
    before = freeze(python)
    install(python, '-e', REPOSITORY)
    changed = {name: version for name, version in before.items()
               if name != 'mmrobust' and freeze(python).get(name) != version}
    if changed:
        raise SystemExit(f'{name}: installing mmrobust changed {changed}')
    return python


def install_mmcv(python: Path, how: str) -> None:
    if how == 'wheel':
        install(python, '--only-binary', 'mmcv', 'mmcv>=2.0.1,<2.2')
    elif how == 'build':
        # minutes of compiling; pip keeps the wheel for the next environment of this kind
        install(python, 'wheel', 'ninja', 'psutil')
        install(python, '--no-build-isolation', 'mmcv==2.1.0', env={'MMCV_WITH_OPS': '1'})
    else:
        install(python, 'mmcv-lite==2.1.0')
        where = subprocess.check_output([python, '-c', 'import mmcv; print(mmcv.__path__[0])'],
                                        text=True).strip()
        shutil.copy(HERE / 'mmcv_ext.py', Path(where, '_ext.py'))


def install(python: Path, *what: object, env: dict[str, str] | None = None) -> None:
    command = [python, '-m', 'pip', 'install', '--quiet', *what]
    subprocess.check_call(list(map(str, command)), env={**os.environ, **(env or {})})


def interpreter(versions: tuple[str, ...]) -> str:
    """A Python of one of these versions, on the path or of pyenv."""
    for version in versions:
        if found := shutil.which(f'python{version}'):
            if subprocess.run([found, '-c', ''], capture_output=True).returncode == 0:
                return found
        of_pyenv = sorted(Path.home().glob(f'.pyenv/versions/{version}.*/bin/python'))
        if of_pyenv:
            return str(of_pyenv[-1])
    if '.'.join(map(str, sys.version_info[:2])) in versions:
        return sys.executable
    raise SystemExit(f'no Python {" or ".join(versions)} found: install one')


def freeze(python: Path) -> dict[str, str]:
    """The distributions of an environment, and their versions."""
    code = ('import json; from importlib.metadata import distributions as d; '
            'print(json.dumps({x.metadata["Name"]: x.version for x in d()}))')
    return json.loads(subprocess.check_output([python, '-c', code], text=True))


def test(python: Path, report: Path, tests: list[str]) -> dict:
    """Run the suite; the numbers of it."""
    report.unlink(missing_ok=True)
    subprocess.run([python, '-m', 'pytest', '-n', 'auto', '--maxprocesses', '8', '--dist',
                    'loadfile', f'--junitxml={report}', *tests], cwd=REPOSITORY,
                   env={**os.environ, 'OMP_NUM_THREADS': '1'})
    suite = ElementTree.parse(report).getroot().find('testsuite')
    counts = {key: int(suite.get(key)) for key in ('tests', 'failures', 'errors', 'skipped')}
    failed = counts['failures'] + counts['errors']
    names = [f'{case.get("classname")}.{case.get("name")}' for case in suite.iter('testcase')
             if case.find('failure') is not None or case.find('error') is not None]
    versions = {name: version for name, version in freeze(python).items() if name in SHOWN}
    return dict(passed=counts['tests'] - failed - counts['skipped'], failed=failed,
                skipped=counts['skipped'], failures=names, versions=versions,
                python=subprocess.check_output([python, '-V'], text=True).split()[1])


def table(results: dict[str, dict]) -> str:
    """The results as a table of Markdown."""
    lines = ['| environment | Python | libraries | passed | failed | skipped |',
             '|---|---|---|---|---|---|']
    for name, r in results.items():
        libraries = ', '.join(f'{k} {r["versions"][k]}' for k in SHOWN if k in r['versions'])
        lines.append(f'| {name} | {r["python"]} | {libraries} | {r["passed"]} | {r["failed"]} | '
                     f'{r["skipped"]} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())

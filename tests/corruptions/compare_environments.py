"""Compares the pixels of all corruptions between versions of libraries, threads and processors.

    python tests/corruptions/compare_environments.py FOLDER [--names TYPE ...] [--large 480 640]

Makes an environment with pip for each row of ``ENVIRONMENTS`` in FOLDER (some 400 MB each; those
that are there are used), computes the digests in each, in the first and last also with other
settings, and prints which cells differ. Ends with 1 where any does.
"""
import argparse
import collections
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

DIGESTS = Path(__file__).with_name('digests.py')
# name -> Python versions that its wheels are for (the first found is used), packages
ENVIRONMENTS = {
    'opencv-4.8': (('3.10', '3.11'), ['opencv-python-headless==4.8.*', 'numpy==1.26.*',
                                      'scipy==1.11.*', 'numba==0.59.*', 'pillow==10.*']),
    'opencv-4.10': (('3.11', '3.12', '3.10'), ['opencv-python-headless==4.10.*', 'numpy==1.26.*',
                                               'scipy', 'numba', 'pillow==11.*']),
    'opencv-4.12': (('3.12', '3.11'), ['opencv-python-headless==4.12.*', 'numpy==2.*',
                                       'scipy', 'numba', 'pillow']),
    'opencv-5': (('3.13', '3.12', '3.11'), ['opencv-python-headless==5.*', 'numpy==2.*',
                                            'scipy', 'numba', 'pillow']),
}
# what the libraries read from the environment; NumPy and OpenCV ignore features that are absent
SETTINGS = {
    'default': {},
    'threads 1': dict(CV2_THREADS='1', OMP_NUM_THREADS='1', NUMBA_NUM_THREADS='1'),
    'threads 2': dict(CV2_THREADS='2', OMP_NUM_THREADS='2', NUMBA_NUM_THREADS='2'),
    'threads 8': dict(CV2_THREADS='8', OMP_NUM_THREADS='8', NUMBA_NUM_THREADS='8'),
    'no AVX-512': dict(NPY_DISABLE_CPU_FEATURES='AVX512F AVX512CD AVX512_SKX AVX512_CLX '
                       'AVX512_CNL AVX512_ICL', OPENCV_CPU_DISABLE='AVX512-SKX,AVX512-COMMON',
                       OPENBLAS_CORETYPE='Haswell', NUMBA_CPU_NAME='haswell',
                       NUMBA_CPU_FEATURES='+avx,+avx2,+sse4.2'),
    'SSE4 only': dict(NPY_DISABLE_CPU_FEATURES='AVX AVX2 FMA3 F16C', OPENCV_IPP='disabled',
                      OPENCV_CPU_DISABLE='AVX2,FP16,AVX512-SKX', OPENBLAS_CORETYPE='Nehalem',
                      NUMBA_CPU_NAME='nehalem', NUMBA_CPU_FEATURES='+sse4.2'),
}


def make(folder: Path, pythons: tuple[str, ...], packages: list[str]) -> Path:
    """Returns the Python of an environment, made where it is missing."""
    python = folder / 'bin' / 'python'
    complete = folder / 'complete'
    if not complete.exists():
        base = next((found for version in pythons if (found := find_python(version))), None)
        if base is None:
            raise SystemExit(f'None of Python {", ".join(pythons)} is installed, of which '
                             f'{folder.name} needs one.')
        subprocess.run([base, '-m', 'venv', '--clear', folder], check=True)
        pip = [python, '-m', 'pip', 'install', '--quiet']
        subprocess.run([*pip, *packages], check=True)
        subprocess.run([*pip, '--no-deps', 'imagecorruptions-imaug'], check=True)
        complete.touch()
    return python


def find_python(version: str) -> str | None:
    """Finds a Python on the path, or among those of pyenv."""
    found = sorted(Path.home().glob(f'.pyenv/versions/{version}.*/bin/python'))
    return str(found[-1]) if found else shutil.which(f'python{version}')


def run(python: Path, setting: dict[str, str], options: list[str], cache: Path) -> dict:
    # compiled anew for each kind of processor
    environment = {**os.environ, **setting, 'NUMBA_CACHE_DIR': str(cache), 'PYTHONPATH': ''}
    result = subprocess.run([python, '-W', 'ignore', DIGESTS, *options], env=environment,
                            stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise SystemExit(f'The digests failed with {python} and {setting}: see above.')
    return json.loads(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('folder', type=Path, help='where the environments are or will be')
    parser.add_argument('--environments', nargs='+', choices=ENVIRONMENTS, default=ENVIRONMENTS,
                        metavar='NAME', help=f'only these of {", ".join(ENVIRONMENTS)}')
    parser.add_argument('--names', nargs='+', help='only these types')
    parser.add_argument('--large', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'),
                        help='with a further picture of this size')
    args = parser.parse_args()
    options = ['--names', *args.names] if args.names else []
    options += ['--large', *map(str, args.large)] if args.large else []
    args.folder.mkdir(parents=True, exist_ok=True)

    columns = {}
    names = list(args.environments)
    for name in names:
        python = make((args.folder / name).absolute(), *ENVIRONMENTS[name])
        for setting in SETTINGS if name in (names[0], names[-1]) else ['default']:
            label = name if setting == 'default' else f'{name}, {setting}'
            cache = args.folder / 'cache' / label.replace(' ', '-')
            columns[label] = run(python, SETTINGS[setting], options, cache.absolute())
            print(f'{label:28}', *map(' '.join, columns[label]['versions'].items()), sep='  ',
                  flush=True)

    first = next(iter(columns.values()))['digests']
    print(f'\n{"cells that differ from the first row":42} of', len(first))
    different = False
    for label, column in columns.items():
        unlike = collections.Counter(cell.split()[1] for cell in first
                                     if column['digests'][cell] != first[cell])
        different |= bool(unlike)
        print(f'{label:42}', ', '.join(f'{name} {count}' for name, count in unlike.items()) or 0)
    sys.exit(int(different))


if __name__ == '__main__':
    main()

"""Packaging: configs and tools travel inside the package as ``.mim``, as OpenMMLab's own do."""
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
SHIPPED = ('configs', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """Copies configs and tools to ``mmrobust/.mim`` of the built package."""

    def run(self):
        super().run()
        target = Path(self.build_lib) / 'mmrobust' / '.mim'
        if self.editable_mode:
            return
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in SHIPPED:
            source = HERE / name
            if source.is_dir():
                shutil.copytree(source, target / name,
                                ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
            else:
                shutil.copy2(source, target / name)


def read_version() -> str:
    scope = {}
    exec((HERE / 'mmrobust' / 'version.py').read_text(), scope)
    return scope['__version__']


setup(
    name='mmrobust',
    version=read_version(),
    description='Robust attention and robustness benchmarks for MMSegmentation and MMPretrain',
    long_description=(HERE / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mmrobust', 'mmrobust.*']),
    include_package_data=True,
    zip_safe=False,
    cmdclass={'build_py': BuildWithMim},
    # Nothing here may touch the user's OpenMMLab libraries or torch: they are the extra `mm`.
    install_requires=[
        'numpy',
        'opencv-python',
        'scipy',
        'matplotlib',
        'pillow',
        'imagecorruptions-imaug',
        'numba',
        'safetensors',
        'tqdm',
    ],
    extras_require={
        'mm': [
            'torch>=2.5.1',
            'torchvision>=0.20.1',
            'onedl-mmengine>=0.10.12,<0.11',
            'onedl-mmcv>=2.3.6,<2.4',
            'onedl-mmsegmentation>=1.4.2,<1.5',
            'onedl-mmpretrain>=1.3.6,<1.4',
            'ftfy',
            'regex',
        ],
        'dev': ['pytest', 'pytest-xdist', 'hypothesis', 'ruff', 'tensorboard'],
    },
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)

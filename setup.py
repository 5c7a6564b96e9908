"""Packaging: configs and tools travel inside the package as ``.mim``, as OpenMMLab's own do."""
import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
SHIPPED = ('configs', 'tools', 'model-index.yml', 'dataset-index.yml')


class BuildWithMim(build_py):
    """Puts configs and tools into ``mmrobust/.mim``: copies into a built package, links here."""

    def run(self):
        super().run()
        package = HERE if self.editable_mode else Path(self.build_lib)
        target = package / 'mmrobust' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in SHIPPED:
            if self.editable_mode and self._link(name, target):
                continue
            source = HERE / name
            if source.is_dir():
                shutil.copytree(source, target / name,
                                ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
            else:
                shutil.copy2(source, target / name)

    @staticmethod
    def _link(name, target):
        try:
            os.symlink(os.path.relpath(HERE / name, target), target / name)
        except OSError:  # a system, or a user, without symbolic links
            return False
        return True


def read_version() -> str:
    scope = {}
    exec((HERE / 'mmrobust' / 'version.py').read_text(), scope)
    return scope['__version__']


setup(
    name='mmrobust',
    version=read_version(),
    description='Robust attention and robustness benchmarks for MMSegmentation and MMPretrain',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mmrobust', 'mmrobust.*']),
    include_package_data=True,
    zip_safe=False,
    cmdclass={'build_py': BuildWithMim},
    entry_points={'console_scripts': ['mmrobust = mmrobust.cli:main']},
    # Nothing here may change libraries that the user has. torch (2.1 or newer) and OpenMMLab's are
    # the user's, or come with the extra `mm`. OpenCV (4.8 to 5) has four names, of which any will
    # do and two at once will not; the frost textures' package asks for one of them by name. What
    # is missing is said, with the remedy, when it is needed (mmrobust/utils/hosts.py).
    install_requires=[
        'numpy>=1.26',
        'scipy',
        'matplotlib',
        'pillow',
        'numba',
        'pyyaml',
        'safetensors',
        'tqdm',
    ],
    extras_require={
        # the maintained family, with everything that it leaves to the user to install
        'mm': [
            # its mmseg needs NumPy 2, which torch before 2.3 cannot use
            'torch>=2.3',
            'torchvision>=0.18',
            'onedl-mmengine>=0.10.12,<0.11',
            'onedl-mmcv>=2.3.6,<2.4',
            'onedl-mmsegmentation>=1.4.2,<1.5',
            'onedl-mmpretrain>=1.3.6,<1.4',
            'ftfy',
            'regex',
            'opencv-python>=4.8,<6',
            'imagecorruptions-imaug',
        ],
        'frost': ['imagecorruptions-imaug'],
        'completion': ['shtab'],
        'docs': ['sphinx', 'myst-parser', 'furo'],
        'app': ['gradio>=6'],
        'export': ['onnx', 'onnxscript', 'onnxruntime'],
        'dev': ['pytest', 'pytest-xdist', 'hypothesis', 'ruff', 'tensorboard', 'shtab', 'onnx',
                'onnxscript', 'onnxruntime', 'scikit-learn', 'torchmetrics'],
        # what the backbones are compared with
        'parity': ['timm', 'transformers'],
    },
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in (10, 11, 12, 13)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)

"""One call of a tool, and what most calls name."""
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TRAIN, TEST, PRINT = 'train.py', 'test.py', 'print_config.py'
ANALYSIS = {name: f'analysis/{name}.py' for name in (
    'ablation', 'attention_maps', 'attention_stability', 'compare_robustness', 'complexity',
    'mask_stability', 'head_diversity', 'label_prior', 'report', 'segmentation_comparison',
    'tap_weights')}
CONVERTERS = {name: f'converters/{name}.py' for name in (
    'camvid_to_cityscapes', 'convert_official', 'corrupt_dataset')}
OF_MODELS = ('attention_maps', 'attention_stability', 'head_diversity', 'segmentation_comparison',
             'tap_weights')
SMALL = ('{m}/small.py', '{m}/small.pth')
PLAIN = ('{m}/plain.py', '{m}/plain.pth')
CLASSES = ('{m}/classes.py', '{m}/classes.pth')


@dataclass
class Case:
    """One call of a tool."""
    kind: str
    tool: str
    arguments: tuple
    wrong: bool | None = True
    environment: dict[str, str] = field(default_factory=dict)
    before: Callable[[Path], None] | None = None

    @property
    def name(self) -> str:
        return f'{self.kind}: {self}'

    def __str__(self) -> str:
        settings = ''.join(f'{key}={shlex.quote(value)} '
                           for key, value in self.environment.items())
        return f'{settings}{self.tool} {shlex.join(map(str, self.arguments))}'

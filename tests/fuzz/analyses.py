"""Wrong inputs of the tools that analyse models and make data; see :mod:`cases`."""
from collections.abc import Iterator

from case import ANALYSIS, CLASSES, CONVERTERS, PLAIN, SMALL, Case


def of_models(rng) -> Iterator[Case]:
    common = [
        (), ('{m}/small.py',), (*SMALL, '{m}/small.py'), (*SMALL, *SMALL),
        (*SMALL, '--names', 'a', 'b'), (*SMALL, '--names'), (*SMALL, '--out', '/dev/null'),
        (*SMALL, '--out', '{m}/small.py'), (*SMALL, '--out', '/proc/x'),
        (*SMALL, '--device', 'foo'), (*SMALL, '--device', 'cuda'), (*SMALL, '--device', 'meta'),
        (*SMALL, '--device', ''), (*SMALL, '--corruption', 'frog'), (*SMALL, '--corruption', ''),
        (*SMALL, '--severity', '9'), (*SMALL, '--severity', 'x'), (*SMALL, '--family', 'foo'),
        (*SMALL, '--cfg-options', 'foo'), (*SMALL, '--cfg-options', 'test_dataloader=None'),
        (*SMALL, '--cfg-options', 'test_dataloader.dataset.num_samples=0'), (*SMALL, '--foo')]
    undecided = ((*SMALL, '--device', ''), (*SMALL, '--device', 'meta'),
                 (*SMALL, '--cfg-options', 'test_dataloader=None'))
    layers = [(*SMALL, '--layers', text) for text in ('99', '-99', 'foo', '')]
    images = [(*SMALL, '--images', text) for text in ('0', '-1', 'x', '1.5')]
    images += [(*SMALL, '--seed', 'x')]
    image = [(*SMALL, '--image', text) for text in (
        '99', '-1', 'nowhere.png', '{m}/small.py', '{m}/hollow', '',
        '{m}/image_cut/leftImg8bit/val/a/a_1_leftImg8bit.png')]
    maps = [(*SMALL, '--head', text) for text in ('99', '-99', 'x')]
    maps += [(*SMALL, '--queries', text) for text in ('x', '0.5', '2,2', '-1,0', 'nan,0', '1,2,3')]
    comparison = [(*SMALL, '--indices', text) for text in ('99', '-1', 'x')]
    comparison += [(*SMALL, '--acdc', text) for text in ('nowhere', '{m}/hollow', '{m}/small.py')]
    comparison += [(*SMALL, '--acdc-condition', 'foo')]
    options = dict(attention_maps=common + layers + image + maps,
                   attention_stability=common + layers + images,
                   head_diversity=common + layers + images,
                   segmentation_comparison=common + images + comparison,
                   tap_weights=common + layers + images + image)
    for tool, calls in options.items():
        for arguments in calls:
            yield Case(
                'models', ANALYSIS[tool], arguments,
                None if arguments in undecided
                or tool == 'segmentation_comparison' and arguments == (*SMALL, '--corruption', '')
                or arguments == (*SMALL, '--image', '') else True)
        for other in (PLAIN, CLASSES):  # neither has attention
            yield Case('models', ANALYSIS[tool], other,
                       None if tool == 'segmentation_comparison' and other is PLAIN else True)


def ablation(rng) -> Iterator[Case]:
    fine = ('--benchmark', 'fog')
    for arguments in (
            (), ('{m}/small.py',), ('{m}/small.py', 'a=1'), ('{m}/small.py', 'foo', *fine),
            ('{m}/small.py', '=1', *fine), ('{m}/small.py', 'a=', *fine),
            ('{m}/small.py', 'a=1,1', *fine), ('{m}/small.py', 'a=1', 'a=2', *fine),
            ('{m}/small.py', 'randomness.seed=0', '--benchmark', 'frog'),
            ('{m}/small.py', 'randomness.seed=0', *fine, '--severities', '9'),
            ('{m}/small.py', 'randomness.seed=0', *fine, '--severities', 'x'),
            ('{m}/small.py', 'randomness.seed=0', *fine, '--corruptions', 'snow'),
            ('{m}/small.py', 'randomness.seed=0', *fine, '--out', '{m}/small.py'),
            ('{m}/small.py', 'randomness.seed=0', *fine, '--out', '/proc/x'),
            ('{m}/small.py', 'randomness.seed=0', *fine, '--cfg-options', 'foo'),
            ('{m}/small.py', 'randomness.sed=0', *fine, '--cfg-options', 'trian_cfg=0'),
            ('nowhere.py', 'a=1', *fine), ('{m}/name_error.py', 'a=1', *fine),
            ('{m}/small.py', 'foo.bar=1,2', *fine)):
        yield Case('ablation', ANALYSIS['ablation'], arguments)


def complexity(rng) -> Iterator[Case]:
    for wrong, *arguments in (
            (True,), (True, ''), (True, '{m}/small.py', '{m}/small.pth'),
            (True, '{m}/small.py', '--shape', '0', '0'),
            (True, '{m}/small.py', '--shape', '-8', '8'), (True, '{m}/small.py', '--shape', '8'),
            (True, '{m}/small.py', '--shape', 'a', 'b'),
            (None, '{m}/small.py', '--shape', '1', '1'),
            (True, '{m}/small.py', '--out', '/dev/null'), (False, '{m}/small.py', '{m}/plain.py'),
            (True, '{m}/model_number.py'), (True, '{m}/model_unknown.py'),
            (True, '{m}/small.py', '--foo'), (None, '{m}/small.py', '{m}/small.py')):
        yield Case('complexity', ANALYSIS['complexity'], tuple(arguments), wrong)


def label_prior(rng) -> Iterator[Case]:
    for arguments in (
            (), ('',), ('{m}/classes.py',), ('{m}/no_test.py',), ('{m}/no_train.py',),
            ('{m}/model_number.py',), ('{m}/small.py', '--foo'),
            ('{m}/small.py', '--cfg-options', 'train_dataloader.dataset.num_samples=0'),
            ('{m}/small.py', '--cfg-options', 'val_dataloader.dataset.num_samples=0'),
            ('{m}/small.py', '--cfg-options', 'train_dataloader.dataset.type=Foo')):
        yield Case('label prior', ANALYSIS['label_prior'], arguments)


def results(rng) -> Iterator[Case]:
    kinds = ('empty', 'text', 'list', 'number', 'null', 'dict', 'cut', 'nan', 'format',
             'cells_number', 'cells_text', 'values_text')
    files = [f'{{m}}/results/{kind}/fog/results.json' for kind in kinds]
    files += ['nowhere.json', '', '{m}/results/binary.json', '{m}/results/other.json',
              '{m}/small.pth', '{m}/small.py', '{m}/a folder.json', '{m}/hollow', '/dev/null']
    for file in files:
        yield Case('results', ANALYSIS['compare_robustness'], (file,))
        yield Case('results', ANALYSIS['compare_robustness'], (file, file, '--out', 'o'))
    for arguments in ((), ('--names', 'a'), ('--foo',)):
        yield Case('results', ANALYSIS['compare_robustness'], arguments)
    for kind in kinds:
        yield Case('results', ANALYSIS['report'], (f'{{m}}/results/{kind}',))
    for wrong, *arguments in (
            (True,), (True, 'nowhere'), (True, ''), (None, '{m}/hollow'), (True, '{m}/small.py'),
            (True, '{m}/small.pth'), (None, '{m}/hollow', '--names', 'a', 'b'),
            (True, '{m}/hollow', '--pictures', 'x'), (None, '{m}/hollow', '--pictures', '-1'),
            (True, '{m}/hollow', '--out', '/dev/null/x'), (True, '{m}/hollow', '--out', '/proc/x'),
            (True, '{m}/hollow', '--out', ''), (True, '{m}/hollow', '--out', '{m}/hollow')):
        yield Case('results', ANALYSIS['report'], tuple(arguments), wrong)


def camvid(rng) -> Iterator[Case]:
    for arguments in ((), ('nowhere',), ('',), ('{m}/hollow', 'out'), ('{m}/small.py', 'out'),
                      ('{m}/data', 'out'), ('{m}/data', '{m}/small.py'), ('{m}/data', '/proc/x'),
                      ('{m}/data', 'out', '--size', '0', '0'), ('{m}/data', 'out', '--size', '8'),
                      ('{m}/data', 'out', '--size', '-1', '5'),
                      ('{m}/data', 'out', '--quality', '0'),
                      ('{m}/data', 'out', '--quality', '101'),
                      ('{m}/data', 'out', '--quality', 'x'), ('{m}/data', 'out', 'x')):
        yield Case('camvid', CONVERTERS['camvid_to_cityscapes'], arguments)


def corrupt_dataset(rng) -> Iterator[Case]:
    source = '{m}/data/leftImg8bit'
    small = ('--corruptions', 'brightness', '--severities', '1', '--workers', '1')
    for wrong, *arguments in (
            (True,), (True, source), (True, '', 'out'), (True, 'nowhere', 'out'),
            (True, '{m}/hollow', 'out'), (True, '{m}/small.py', 'out'),
            (True, source, '{m}/small.py', *small), (True, source, '/proc/x', *small),
            (True, source, '', *small), (True, source, source, *small),
            (True, source, f'{source}/out', *small),
            (True, source, 'out', '--corruptions', 'frog'), (True, source, 'out', '--corruptions'),
            (True, source, 'out', '--corruptions', ''),
            *((True, source, 'out', '--severities', text) for text in ('0', '6', '-1', 'x', '')),
            *((True, source, 'out', *small[:4], '--workers', text) for text in ('-1', 'x', '')),
            (None, source, 'out', *small[:4], '--workers', '0'),
            (None, source, 'out', *small, '--workers', '1'),
            *((True, source, 'out', *small, '--format', 'jpg', '--quality', text)
              for text in ('0', '101', '-5', 'x')),
            (True, source, 'out', *small, '--format', 'gif'),
            (True, source, 'out', *small, '--channel-order', 'xyz'),
            (True, source, 'out', *small, '--seed', 'x'),
            (None, source, 'out', *small, '--seed', '-1'),
            (None, source, 'out', *small, '--seed', '9' * 30),
            (True, source, 'out', *small, '--family', 'foo'),
            (False, '{m}/odd names/leftImg8bit', 'out', *small)):
        yield Case('corrupt data set', CONVERTERS['corrupt_dataset'], tuple(arguments), wrong)


def convert_official(rng) -> Iterator[Case]:
    for wrong, *arguments in (
            (True,), (True, '{m}/small.pth'), (True, 'nowhere.pth', 'x.pth'),
            (True, '{m}/hollow', 'x.pth'), (True, '{m}/small.py', 'x.pth'),
            (True, '{m}/plain.pth', 'x.pth'), (True, '{m}/plain.pth', 'x.pth', '--to-official'),
            (True, '{m}/classes.pth', '--dry-run'), (True, '{m}/small.pth', '--dry-run'),
            (True, '{m}/small.pth', 'x.pth', '--weights', 'foo'),
            (True, '{m}/small.pth', 'x.pth', '--weights', 'ema'),
            (True, '{m}/small.pth', 'x.pth', '--num-heads', 'x'),
            (True, '{m}/small.pth', 'x.pth', '--num-heads', '0'),
            (None, '{m}/small.pth', 'x.pth', '--to-official'),
            (True, '{m}/small.pth', '/proc/x.pth', '--to-official'),
            (True, '{m}/small.pth', '{m}/hollow', '--to-official'),
            (True, '{m}/small.pth', '', '--to-official')):
        yield Case('convert', CONVERTERS['convert_official'], tuple(arguments), wrong)


KINDS = (of_models, ablation, complexity, label_prior, results, camvid, corrupt_dataset,
         convert_official)

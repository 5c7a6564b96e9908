"""Any model in one call: configs, plain modules, and what does not fit."""
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

import mmrobust

RNG = np.random.RandomState(0)
PICTURES = [(RNG.randint(0, 255, (32, 32, 3), np.uint8), i % 3) for i in range(5)]
SCENES = [(Image.fromarray(RNG.randint(0, 255, (36, 48, 3), np.uint8)),
           RNG.randint(0, 4, (36, 48))) for _ in range(2)]


class ByBrightness(nn.Module):
    """Class 1 where an image (or a pixel) is bright, else 0; input in 0 to 1."""

    def __init__(self, dense=False):
        super().__init__()
        self.dense = dense
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        bright = x.mean(1, keepdim=True)
        bright = nn.functional.avg_pool2d(bright, 2) if self.dense else bright.mean((2, 3))
        return torch.cat([0.5 - bright, bright - 0.5], 1)


def greys(*levels, dense=False):
    """One-coloured images with the label that ByBrightness gives them clean."""
    return [(np.full((32, 32, 3), level, np.uint8),
             np.full((32, 32), int(level > 127)) if dense else int(level > 127))
            for level in levels]


def run(model, data, tmp_path, protocol='brightness', severities=5, **options):
    return mmrobust.benchmark(model, protocol=protocol, data=data, work_dir=str(tmp_path),
                              severities=severities, **options)


@pytest.mark.parametrize('dense', [False, True])
def test_plain_network(tmp_path, dense):
    """Known images: brightening turns one of the two dark ones bright, on uint8 pixels."""
    model = ByBrightness(dense).train()
    done = run(model, greys(10, 90, 200, 250, dense=dense), tmp_path, severities=4)
    metric = 'mIoU' if dense else 'accuracy/top1'
    assert done.results['metric'] == metric and model.training
    values = {cell['name']: cell['metrics'][metric] for cell in done.results['cells']}
    # 90 + 0.4 * 255 is bright, 10 + 0.4 * 255 is not: 3 of 4 right; IoU 1/2 and 2/3
    assert values == pytest.approx(
        dict(clean=100., brightness=58.33 if dense else 75.), abs=.01)
    assert 'brightness' in done.table() and 'INCOMPLETE' in repr(done)
    assert done.plot().size[0] > 100 and done.path.with_name('results.png').exists()


def test_as_a_data_frame(tmp_path):
    pytest.importorskip('pandas', reason='pandas is not installed')
    frame = run(ByBrightness(), greys(10, 90), tmp_path).to_pandas()
    assert list(frame['name']) == ['clean', 'brightness']
    assert list(frame['accuracy/top1']) == [100., 0.]


def test_corruption_comes_before_the_users_transform(tmp_path):
    given = []

    def transform(image):
        given.append(np.asarray(image))
        return torch.from_numpy(given[-1].astype(np.float32)).permute(2, 0, 1) / 255

    model = ByBrightness()
    loader = DataLoader(greys(10, 90), batch_size=2)
    run(model, loader, tmp_path, transform=transform)
    assert {array.dtype for array in given} == {np.dtype(np.uint8)}
    assert any(abs(int(array.max()) - 137) <= 1 for array in given)  # 10 brightened by half of 255
    assert len(model.seen[-1]) == 2 and model.seen[-1].max() <= 1


def test_goes_on_and_notices_other_weights(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    run(model, PICTURES, tmp_path)
    more = run(model, PICTURES, tmp_path, severities=[4, 5])
    assert len(more.results['cells']) == 3
    with torch.no_grad():
        model[2].weight.add_(1)
    with pytest.raises(ValueError, match='holds results of Sequential that do not belong'):
        run(model, PICTURES, tmp_path)


class Returns(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


@pytest.mark.parametrize('make, message', [
    (lambda x: dict(scores=x), "a dict with scores, in which the logits are not known.*output="),
    (lambda x: (x.mean((2, 3)), x), 'a tuple of 2, in which the logits'),
    (lambda x: x[:, :, 0], r'logits of the shape \(1, 3, 32\)'),
    (lambda x: x.mean((2, 3))[:, :1], r'shape \(1, 1\), one class'),
    (lambda x: x.mean((2, 3)).long(), r'shape \(1, 3\) \(int64\)'),
    (lambda x: x, r'shape \(1, 3, 32, 32\) for one image.*give label maps'),
])
def test_an_answer_that_does_not_fit(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        run(Returns(make), PICTURES, tmp_path)
    assert not list(tmp_path.rglob('results.json'))


@pytest.mark.parametrize('make, output', [
    (lambda x: dict(scores=x.mean((2, 3))), 'scores'),
    (lambda x: (x, x.mean((2, 3))), 1),
    (lambda x: [dict(y=x.mean((2, 3)))], lambda answer: answer[0]['y']),
    (lambda x: dict(logits=x.mean((2, 3))), None),
])
def test_where_the_logits_are(tmp_path, make, output):
    assert run(Returns(make), PICTURES, tmp_path, output=output).summary['types']


image = PICTURES[0][0]
classify = Returns(lambda x: x.mean((2, 3)))
dense = Returns(lambda x: torch.cat([x, x], 1))


@pytest.mark.parametrize('model, data, message', [
    (classify, [image, image], 'sample 0 of list has no label: give pairs'),
    (classify, [(image, 7)] * 2, 'has the label 7, the model has 3 classes'),
    (classify, [(image, 0), (image, 0), (image, 0), (image, -1)], 'has the label -1'),
    (classify, [(image, 0.5)], 'sample 0 of list has a label of the type float64'),
    (classify, [(torch.randn(3, 32, 32), 0)], 'holds float32 values of -.*before normalisation'),
    (classify, [('cat.jpg', 0)], 'sample 0 of list is a str instead of an image'),
    (classify, [], 'data= is empty'),
    (classify, None, 'data= is missing'),
    (classify, iter([(image, 0)]), 'data= is a list_iterator'),
    (classify, SCENES, r'labels of the data are for segmentation'),
    (dense, [(image, np.full((32, 32), 9))], 'label map .* holds labels up to 9'),
    (dense, [(image, np.zeros((8, 8), int))], 'label map of 8 x 8 and an image of 32 x 32'),
])
def test_data_that_do_not_fit(tmp_path, model, data, message):
    with pytest.raises(ValueError, match=message):
        run(model, data, tmp_path)
    assert not list(tmp_path.rglob('results.json'))


@pytest.mark.parametrize('options, message', [
    (dict(transform=lambda image: np.asarray(image)), 'transform gives a ndarray of the shape'),
    (dict(mean=[.5] * 3, std=[.2] * 3), 'grey levels of 0 to 255, so multiply'),
    (dict(transform=lambda image: image, mean=[0.] * 3), 'give one or the other'),
    (dict(checkpoint='a.pth'), 'a plain model holds its weights'),
    (dict(protocol='acdc', severities=None), 'acdc needs a data set of its own'),
    (dict(protocol='pgd', severities=None), 'pgd needs an attack'),
    (dict(protocol='cityscapes-c'), 'cityscapes-c needs a segmenter'),
    (dict(output='y'), "returns a Tensor without the entry 'y'"),
])
def test_options_that_do_not_fit(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(classify, PICTURES, tmp_path, **options)


def test_a_config_in_one_call(repo, tmp_path):
    options = {'test_dataloader.dataset.num_samples': 2,
               'test_dataloader.dataset.image_size': (64, 48)}
    config = str(repo / 'configs' / 'fan_demo_tap_adl_streets.py')
    from mmengine.registry import MODELS

    from mmrobust.apis import load_config
    torch.save(dict(state_dict=MODELS.build(load_config(config).model).state_dict()),
               tmp_path / 'weights.pth')
    done = mmrobust.benchmark(config, str(tmp_path / 'weights.pth'), 'fog', severities=3,
                              cfg_options=options, work_dir=str(tmp_path / 'work'), num_workers=0)
    assert done.results['model'] == 'fan_demo_tap_adl_streets'
    assert [cell['name'] for cell in done.results['cells']] == ['clean', 'fog']
    with pytest.raises(ValueError, match='data: these are of plain models'):
        mmrobust.benchmark(config, None, 'fog', data=PICTURES)
    with pytest.raises(ValueError, match='checkpoint= is missing'):
        mmrobust.benchmark(config, None, 'fog')

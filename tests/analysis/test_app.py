"""The page to try models on: what it shows, and what it says of wrong input."""
import cv2
import numpy as np
import pytest

from mmrobust.analysis.app import look
from mmrobust.analysis.conditions import CLEAN, Condition
from mmrobust.analysis.inspection import inspect
from mmrobust.analysis.subject import ImageSource

CHOICES = ['fog', 3, 'imagenet', 0, -1, 0.5, 0.5]


def test_an_inspection_holds_what_the_model_says_of_both_pictures(subject):
    source = ImageSource(subject.cfg)
    found = inspect(subject, source, 1, Condition('contrast', 5), query=(0.1, 0.9))
    clean, changed = found.views
    expected = subject.predict(source.load(1))
    assert np.array_equal(clean.labels, expected.pred_sem_seg.data[0].numpy())
    probabilities = expected.seg_logits.data.softmax(0).numpy()
    assert np.allclose(clean.confidence, probabilities.max(0), atol=1e-6)
    assert np.array_equal(changed.picture, source.display(source.load(1, Condition('contrast', 5))))
    assert not np.array_equal(changed.confidence, clean.confidence)
    changed.labels = clean.labels.copy()
    changed.labels[:16] = (changed.labels[:16] + 1) % 19  # a quarter of the rows
    assert 'another class in 25.0 % of the pixels' in found.summary()
    assert clean.attention.shape == (4, 6)
    assert clean.attention.sum() == pytest.approx(1, abs=1e-5)
    assert [axis.get_title() for axis in found.draw().axes if axis.get_visible()][-1] \
        == 'what changed'
    alone = inspect(subject, source, 1, CLEAN)
    assert len(alone.views) == 1 and 'another class' not in alone.summary()


def test_a_classifier_without_attention(tmp_path):
    pytest.importorskip('mmpretrain')
    from mmengine.config import Config

    from mmrobust.analysis.subject import Subject

    cfg = Config(dict(default_scope='mmpretrain', model=dict(
        type='ImageClassifier', backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=8,
                                              out_indices=(3,), stem_channels=8),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=64)),
        test_dataloader=dict(dataset=dict(
            type='CIFAR10', data_root=str(tmp_path / 'absent'), split='test',
            pipeline=[dict(type='PackInputs')]))))
    subject = Subject.load(cfg, None, 'net')
    file = str(tmp_path / 'x.png')
    cv2.imwrite(file, np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    found = inspect(subject, ImageSource(cfg), file, Condition('fog', 3, family='cifar'))
    assert found.layer is None and len(found.views) == 2
    best = int(found.views[0].confidence.argmax())
    assert found.views[0].confidence.sum() == pytest.approx(1, abs=1e-5)
    assert f'clean: {found.classes[best]}' in found.summary()
    assert found.classes[0] == 'airplane'
    found.draw()


@pytest.mark.parametrize(('arguments', 'words'), [
    ([None, 99, *CHOICES], 'there is no image 99: the test data have 6'),
    ([None, None, *CHOICES], 'number of the image is empty'),
    ([None, 0, 'fogg', *CHOICES[1:]], "fog"),
    ([None, 0, *CHOICES[:4], 7, 0.5, 0.5], "there is no attention layer '7'"),
    (['absent.png', 0, *CHOICES], "there is no image 'absent.png'"),
])
def test_wrong_input_is_a_sentence(subject, arguments, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        look([subject], [ImageSource(subject.cfg)], *arguments)


def test_the_page_answers_over_http(subject, tmp_path):
    pytest.importorskip('gradio')
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError
    from PIL import Image

    from mmrobust.analysis.app import build_page

    page = build_page([subject, subject])
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, show_error=True,
                            server_name='127.0.0.1')
    try:
        client = Client(url, verbose=False, download_files=str(tmp_path))
        shown = client.predict(None, 2, *CHOICES, api_name='/look')
        assert 'of the pixels' in shown[0] and shown[0] == shown[2]
        assert min(Image.open(shown[1]).size) > 200
        (tmp_path / 'words.png').write_text('no image')
        with pytest.raises(AppError, match='words.png.*cannot be decoded'):
            client.predict(handle_file(tmp_path / 'words.png'), 0, *CHOICES, api_name='/look')
    finally:
        page.close()

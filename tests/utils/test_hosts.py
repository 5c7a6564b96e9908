"""What is installed is checked before work: one sentence for each combination that cannot work."""
import pytest

from mmrobust.utils import hosts

FINE = {'torch': '2.1.2+cu121', 'numpy': '1.26.4', 'opencv-python': '4.11.0.86',
        'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmsegmentation': '1.2.2', 'mmpretrain': '1.2.0'}


@pytest.fixture
def here(monkeypatch):
    """Lets an environment look as if these distributions, and no other modules, were installed."""
    def pretend(modules=(), **changes):
        present = {**FINE, **{name.replace('_', '-'): value for name, value in changes.items()}}
        monkeypatch.setattr(hosts, 'installed', lambda *names: next(
            (present[name] for name in names if present.get(name)), None))
        missing = {'torch', 'mmengine', 'cv2', 'mmseg', 'mmcv._ext', 'ftfy'} - set(modules)
        monkeypatch.setattr(hosts, 'there', lambda name: name not in missing)
        hosts.check_environment.cache_clear()

    yield pretend
    hosts.check_environment.cache_clear()


@pytest.mark.parametrize('changes', [
    {}, {'opencv_python': None, 'opencv_python_headless': '4.8.0.74'},
    {'torch': '2.15.0', 'numpy': '2.4.6', 'opencv_python': '5.0.0.93'},
    {'torch': '2.3.0', 'numpy': '2.0.1'},
])
def test_what_works_together_passes(here, changes):
    here(['cv2'], **changes)
    hosts.check_environment()


@pytest.mark.parametrize(('modules', 'changes', 'sentence'), [
    ('', {'torch': None}, 'needs torch 2.1 or newer, which is not installed: `pip install torch'),
    ('', {'torch': '2.0.1'}, r'needs torch 2\.1 or newer, 2\.0\.1 is installed: install a newer'),
    ('', {'numpy': '1.24.4'}, r'needs numpy 1\.26 or newer, 1\.24\.4 is installed: `pip install'),
    ('', {'opencv_python': '4.7.0.72'}, r'needs opencv 4\.8 or newer, 4\.7\.0\.72 is installed'),
    ('', {'numpy': '2.0.0'}, r'torch 2\.1\.2\+cu121 cannot use NumPy 2\.0\.0: `pip install "numpy'),
    ('no cv2', {'opencv_python': None}, 'needs OpenCV, which is not installed: `pip install'),
    ('', {'mmengine': None}, 'mmengine is not installed: .* or `pip install mmengine`'),
    ('', {'onedl_mmcv': '2.3.6'}, "mmcv and onedl-mmcv are both .* each other's files: uninstall"),
])
def test_what_cannot_work_is_said_in_one_sentence(here, modules, changes, sentence):
    here([] if modules else ['cv2'], **changes)
    with pytest.raises(ImportError, match=sentence) as caught:
        hosts.check_environment()
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_host_is_named_with_the_family_that_is_here(here):
    here(['cv2', 'mmcv._ext'], mmsegmentation=None)
    with pytest.raises(ImportError, match='needs mmseg, which is not .*`mmsegmentation`'):
        hosts.require('mmseg')


def test_the_original_needs_what_it_does_not_bring(here):
    here(['cv2', 'mmseg'])
    with pytest.raises(ImportError, match='mmcv-lite does not have: `pip uninstall mmcv-lite'):
        hosts.require('mmseg')
    here(['cv2', 'mmseg', 'mmcv._ext'])
    with pytest.raises(ImportError, match='mmseg needs ftfy, which it does not bring itself'):
        hosts.require('mmseg')
    here(['cv2', 'mmseg'], onedl_mmsegmentation='1.4.2', mmsegmentation=None, mmengine=None,
         onedl_mmengine='0.10.12', mmcv=None, onedl_mmcv='2.3.6')
    assert hosts.lacks('mmseg') is None  # the maintained one needs no operators


def test_families(here):
    here()
    assert hosts.family() == 'original'
    here(onedl_mmcv='2.3.6')
    assert hosts.family() == 'both'


def test_two_packages_that_bring_the_same_module(here):
    here(['cv2'])
    assert hosts.several_opencvs() is None
    here(['cv2'], opencv_python_headless='4.11.0.86')
    assert hosts.several_opencvs().startswith(
        'opencv-python and opencv-python-headless are installed over each other')
    hosts.check_environment()  # it works, with the last one's files


def test_detection_of_the_maintained_family_needs_operators(here):
    family = dict(mmsegmentation=None, mmengine=None, mmcv=None, onedl_mmengine='0.10.12',
                  onedl_mmcv='2.3.6', onedl_mmdetection='3.5.1')
    here(['cv2', 'mmdet'], **family)
    assert 'onedl-mmdetection imports compiled operators' in hosts.lacks('mmdet')
    here(['cv2', 'mmdet', 'mmcv._ext'], **family)
    assert hosts.lacks('mmdet') is None

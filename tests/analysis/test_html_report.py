"""The report: what it gathers, and how it behaves in a browser."""
import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from mmrobust.analysis.html_report import write_report
from mmrobust.analysis.page import figure, page, table
from mmrobust.utils.figures import new_figure, save_figure
from mmrobust.utils.files import write_table
from mmrobust.utils.results_file import seal


def results(mean, finished=3, identity=()):
    cells = [dict(heading='', name='clean', severity=0, metrics={'mIoU': 70.}),
             dict(heading='', name='fog', severity=1, metrics={'mIoU': mean + 5}),
             dict(heading='', name='fog', severity=2, metrics={'mIoU': mean - 5})]
    complete = finished == 3
    return seal(dict(format=2, benchmark='fog', model='config', metric='mIoU', finished=finished,
                expected=3, identity=dict(identity or {}), layout={}, cells=cells[:finished],
                summary=dict(P=70., mPC=mean if complete else None,
                             types=dict(fog=mean if complete else None))))


@pytest.fixture
def work_dirs(tmp_path):
    folders = []
    for name, mean in (('plain', 9.), ('<ours>', 40.), ('third', 100.)):
        folder = tmp_path / name
        (folder / 'fog').mkdir(parents=True)
        (folder / 'fog' / 'results.json').write_text(json.dumps(results(mean)))
        folders.append(folder)
    drawing, _ = new_figure(2, 2)
    save_figure(drawing, folders[0] / 'analysis' / 'head_diversity.png')
    write_table(folders[0] / 'analysis' / 'head_diversity.csv', [
        dict(model='plain', image=image, condition='clean', layer=layer, position=0,
             head_similarity=image + 0.25) for image in (0, 1) for layer in 'ab'])
    (folders[1] / 'pictures').mkdir()
    cv2.imwrite(str(folders[1] / 'pictures' / 'street.png'), np.full((9, 900, 3), 128, np.uint8))
    return folders


def test_gathers_everything(work_dirs, tmp_path):
    said = write_report(work_dirs, tmp_path / 'report.html')
    assert said.endswith('fog, Diversity of heads and concentration, Predictions')
    html = (tmp_path / 'report.html').read_text()
    assert html.count('<td data-value="40.0">40</td>') == 2  # the total and its only type
    assert '&lt;ours&gt;' in html and '<ours>' not in html
    # means over the images 0 and 1 of each layer
    assert html.count('<td data-value="0.75">0.75</td>') == 2
    assert 'street' in html and 'data:image/jpeg;base64,' in html
    assert not re.search(r'(src|href)="(?!data:|#)', html)  # it stands alone
    assert 'Incomplete' not in html


def test_shows_classes_and_confidence(tmp_path):
    content = results(40.)
    content['classes'] = ['road', 'car', 'train']
    for cell, iou, ece in zip(content['cells'], ([90., 60., None], [80., 30., None],
                                                 [70., .5, None]), (2., 4., 8.), strict=True):
        cell['measures'] = {'per_class/IoU': iou, 'calibration/ECE': ece,
                            'reliability/count': [0] * 14 + [5],
                            'reliability/confidence': [None] * 14 + [97.],
                            'reliability/accuracy': [None] * 14 + [80.]}
    (tmp_path / 'model').mkdir()
    (tmp_path / 'model/results.json').write_text(json.dumps(seal(content)))
    write_report([tmp_path / 'model'], tmp_path / 'report.html')
    html = (tmp_path / 'report.html').read_text()
    assert 'worst class: car, IoU 15.25 under fog (clean 60.00)' in html
    assert 'classes that vanish (below 1 of at least 10 clean): car (fog 2)' in html
    assert html.count('<td data-value="6.0">6</td>') == 1  # mean ECE of fog
    assert html.count('data:image/png') == 3  # bars, heat map, reliability diagram
    content['cells'][1]['measures'] = {'per_class/IoU': ['x']}
    (tmp_path / 'model/results.json').write_text(json.dumps(seal(content)))
    with pytest.raises(ValueError, match="per_class/IoU of fog is 'x' instead of a number"):
        write_report([tmp_path / 'model'], tmp_path / 'report.html')


def test_what_is_left_out_is_said(work_dirs, tmp_path):
    (work_dirs[0] / 'results.json').write_text('[1]')
    said = write_report(work_dirs, tmp_path / 'report.html')
    assert re.search(r'Predictions\nleft out: \S*results\.json is no results file', said)


def test_incomplete_is_said(work_dirs, tmp_path):
    (work_dirs[0] / 'fog' / 'results.json').write_text(json.dumps(results(9., finished=2)))
    write_report(work_dirs[:1], tmp_path / 'report.html', ['first'])
    html = (tmp_path / 'report.html').read_text()
    assert 'Incomplete' in html and '2 of 3' in html
    assert '<td data-value="14.0">14</td>' in html  # the finished cell


def test_models_under_other_conditions_are_marked(work_dirs, tmp_path):
    (work_dirs[0] / 'fog' / 'results.json').write_text(json.dumps(
        results(9., identity=dict(protocol=dict(seed=1)))))
    write_report(work_dirs, tmp_path / 'report.html')
    html = (tmp_path / 'report.html').read_text()
    assert html.count('Not comparable: ') == 2 and 'seed=none instead of 1' in html


def test_unusable_input(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is nothing to report in'):
        write_report([tmp_path], tmp_path / 'report.html')
    with pytest.raises(FileNotFoundError, match="no folder '.*nowhere' to report on"):
        write_report([tmp_path / 'nowhere'], tmp_path / 'report.html')
    with pytest.raises(ValueError, match='2 names for 1 folders'):
        write_report([tmp_path], tmp_path / 'report.html', ['a', 'b'])
    (tmp_path / 'results.json').write_text('[1]')  # somebody else's
    with pytest.raises(ValueError, match=r'results\.json is no results file of a benchmark'):
        write_report([tmp_path], tmp_path / 'report.html')
    (tmp_path / 'results.json').write_text(json.dumps(results(9., finished=0)))
    with pytest.raises(ValueError, match=r'results\.json holds no finished cell'):
        write_report([tmp_path], tmp_path / 'report.html')
    (tmp_path / 'results.json').write_text('{')
    with pytest.raises(ValueError, match='results.json is damaged'):
        write_report([tmp_path], tmp_path / 'report.html')


def browse(path, tmp_path):
    """The page as a browser shows it after its scripts ran."""
    browser = next(filter(None, map(shutil.which, (
        'chromium', 'chromium-browser', 'google-chrome'))), None)
    if browser is None:
        pytest.skip('there is no Chromium to open the page in')
    return subprocess.run(
        [browser, '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path}/b',
         '--virtual-time-budget=2000', '--dump-dom', path.as_uri()],
        capture_output=True, text=True, check=True, timeout=120).stdout


def test_numbers():
    html = table([dict(a=50475048., b=3.068e9, c=224., d=12.345, e=0.98761, f=None)])
    assert re.findall('>([^<>]+)</td>', html) == ['50.48M', '3.068G', '224', '12.35', '0.9876',
                                                  '–']


def test_sorts_in_a_browser(tmp_path):
    """Numbers as numbers, words as words, what is missing last; a second click turns it round."""
    rows = [dict(name='beta', value=9.), dict(name='alpha', value=100.),
            dict(name='gamma', value=None), dict(name='delta', value=-1.5)]
    picture = cv2.imencode('.png', np.zeros((2, 3, 3), np.uint8))[1].tobytes()
    html = page('Report', [('First', table(rows)), ('Second', table(rows) + table(rows)),
                           ('Third', figure(picture, 'a picture'))])
    clicks = '''<script>
        const click = (i, j, times) => { for (let n = 0; n < times; n++)
          document.querySelectorAll("table")[i].querySelectorAll("th button")[j].click(); };
        click(0, 1, 1); click(1, 1, 2); click(2, 0, 1);
        for (const t of document.querySelectorAll("table"))
          document.body.append("ORDER " + [...t.tBodies[0].rows].map(r => r.cells[0].textContent));
        addEventListener("load", () => document.body.append(
          "WIDTH " + document.images[0].naturalWidth + " ERRORS " + failures));
        </script>'''
    html = html.replace('<head>', '<head><script>let failures = 0; onerror = () => failures++;'
                        '</script>').replace('</body>', f'{clicks}</body>')
    (tmp_path / 'page.html').write_text(html)
    dom = browse(tmp_path / 'page.html', tmp_path)
    dom = dom[dom.rindex('</script>'):]
    assert re.findall(r'ORDER ([a-z,]+)', dom) == [
        'delta,beta,alpha,gamma', 'alpha,beta,delta,gamma', 'alpha,beta,delta,gamma']
    assert 'WIDTH 3 ERRORS 0' in dom


def with_measures(folder):
    content = results(40.)
    content['classes'] = ['road', '</script>']
    for i, cell in enumerate(content['cells']):
        cell['measures'] = {'per_class/IoU': [90. - i, None]}
    (folder / 'fog/results.json').write_text(json.dumps(seal(content)))
    (folder / 'show/fog/2/aachen').mkdir(parents=True)
    cv2.imwrite(str(folder / 'show/fog/2/aachen/a.png'), np.full((8, 16, 3), 90, np.uint8))


def test_what_the_explorer_is_given(work_dirs, tmp_path):
    with_measures(work_dirs[0])
    write_report(work_dirs, tmp_path / 'report.html')
    html = (tmp_path / 'report.html').read_text()
    data, = re.findall('<script type="application/json">(.*?)</script>', html)
    data = json.loads(data)
    assert [model['name'] for model in data['models']] == ['plain', '<ours>', 'third']
    first, second = data['models'][:2]
    assert first['classes'] == ['road', '</script>'] and second['classes'] == []
    assert first['cells'][2] == dict(name='fog', severity=2, value=35., classes=[88., None],
                                     pictures=[0])
    assert second['cells'][2]['pictures'] == [] and len(data['pictures']) == 1
    assert data['pictures'][0].startswith('data:image/jpeg;base64,')


def test_looking_around_in_a_browser(work_dirs, tmp_path):
    with_measures(work_dirs[0])
    write_report(work_dirs, tmp_path / 'report.html')
    clicks = '''<script>
        const box = document.querySelector(".explorer"), [model, type, of] =
          box.querySelectorAll("select");
        const pick = (select, index) => { select.selectedIndex = index;
          select.dispatchEvent(new Event("change")); };
        const say = () => document.body.append("SEES " + [...box.querySelectorAll("tr")].map(
          row => [...row.cells].map(cell => cell.textContent).join(" ")).join("; ") + " END");
        say();
        pick(of, 1); pick(type, 2); say();
        box.querySelectorAll("td button")[1].click();
        const shown = box.querySelector(".shown");
        document.body.append("SEES " + shown.textContent + " " +
          shown.querySelectorAll("img").length + " END");
        pick(model, 1); say();
        box.querySelectorAll("td button")[0].click();
        document.body.append("SEES " + shown.textContent + " END");
        </script>'''
    html = (tmp_path / 'report.html').read_text().replace('</body>', f'{clicks}</body>')
    (tmp_path / 'page.html').write_text(html)
    dom = browse(tmp_path / 'page.html', tmp_path)
    dom = dom[dom.rindex('</script>'):]
    dash = '\u2013'
    assert re.findall('SEES (.*?) END', dom) == [
        f'type {dash} 1 2; clean 70.00  ; fog  45.00 35.00',
        'type 1 2; fog 89.00 88.00',
        'plain: fog, 2, IoU of road 88.00 1',
        'type 1 2; fog 45.00 35.00',
        '&lt;ours&gt;: fog, 1, mIoU 45.00No pictures of this cell: keep them with --show-dir '
        'inside the folder of the model.']


def test_report_in_a_browser(work_dirs, tmp_path):
    write_report(work_dirs, tmp_path / 'report.html')
    dom = browse(tmp_path / 'report.html', tmp_path)
    assert dom.count('<table') == 4 and dom.count('<figure>') == 3
    assert '<h1>Robustness report</h1>' in dom

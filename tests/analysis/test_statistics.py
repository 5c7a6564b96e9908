"""Statistics of attention against values computed by hand."""
import math

import pytest
import torch

from mmrobust.analysis.attention import AttentionMaps, token_grid
from mmrobust.analysis.capture import window_places
from mmrobust.analysis.statistics import (
    attention_statistics,
    effective_tokens,
    map_similarity,
    top_share,
)
from mmrobust.models.losses.attention_diversification import AttentionDiversificationLoss

DIAGONAL = [[1., 0.], [0., 1.]]
COLUMN = [[1., 0.], [1., 0.]]  # every query looks at the first token
UNIFORM = [[.5, .5], [.5, .5]]


def maps(*heads):
    return AttentionMaps.of(torch.tensor([heads], dtype=torch.float64))


def test_hand_computed():
    found = attention_statistics(maps(DIAGONAL, COLUMN), top=0.5)
    # <diagonal, column> = 1, both have norm sqrt(2)
    assert found['head_similarity'].item() == pytest.approx(0.5)
    assert found['row_entropy'].item() == pytest.approx(0)
    # received: (1 + 2) / 4 and 1 / 4
    assert found['top_share'].item() == pytest.approx(0.75)
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert found['effective_tokens'].item() == pytest.approx(math.exp(entropy))
    assert found['diagonality'].item() == pytest.approx((2 + 1) / 4)
    # tau = 2 keeps entries >= 1 of the mean [[1, 0], [.5, .5]]: rows (1, 0), (0, 0)
    assert found['adl'].item() == pytest.approx(0.5)


def test_extremes():
    uniform = attention_statistics(maps(UNIFORM, UNIFORM))
    assert uniform['head_similarity'].item() == pytest.approx(1)
    assert uniform['row_entropy'].item() == pytest.approx(math.log(2))
    assert uniform['effective_tokens'].item() == pytest.approx(2)
    assert math.isnan(attention_statistics(maps(UNIFORM))['head_similarity'].item())
    focused = attention_statistics(maps(COLUMN))
    assert focused['effective_tokens'].item() == pytest.approx(1)
    assert focused['adl'].item() == pytest.approx(1)
    assert attention_statistics(maps([[.2, .3, .5]]))['diagonality'].isnan().all()


def test_similarity_of_two_maps():
    heads, mean = map_similarity(maps(DIAGONAL, UNIFORM), maps(COLUMN, UNIFORM))
    assert heads.tolist() == [pytest.approx([0.5, 1])]
    # means [[.75, .25], [.25, .75]] and [[.75, .25], [.75, .25]]
    assert mean.tolist() == pytest.approx([(.5625 + .0625 + .1875 + .1875) / 1.25])
    with pytest.raises(ValueError, match='must have one size'):
        map_similarity(maps(DIAGONAL), maps([[1., 0., 0.]]))


@pytest.mark.parametrize('shift', [0, 1])
def test_map_of_a_query(shift):
    """Of windows over a padded grid, and of tokens behind a class token with fewer keys."""
    places, grid = window_places((2, 3), 2, shift)
    weights = torch.rand(2, 1, 4, 4).softmax(-1)
    windowed = AttentionMaps(1, weights=weights, windows=places, grid=grid, unpadded=(2, 3))
    row = windowed.matrix()[4 + 2].view(2, 4)[:, :3]
    assert torch.allclose(windowed.query_map((0.9, 0.9)), row)
    plain = AttentionMaps(1, weights=torch.rand(1, 2, 9, 2), image_size=(32, 64))
    assert torch.equal(plain.query_map((0., 0.3), head=1), plain.weights[0, 1, 1 + 1].view(1, 2))
    with pytest.raises(ValueError, match='query at 1.2, 0.0 lies outside the image'):
        plain.query_map((1.2, 0.))


def test_shares():
    received = torch.tensor([[.5, .3, .1, .1]])
    assert top_share(received, 0.5).item() == pytest.approx(0.8)
    assert effective_tokens(torch.full((1, 7), 1 / 7)).item() == pytest.approx(7)


@pytest.mark.parametrize('entries', [1, 60, 10**6])
def test_blocks_change_nothing(entries, monkeypatch):
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 11, 4), torch.randn(2, 3, 11, 4)
    mask, bias = torch.rand(3, 11, 11), torch.randn(2, 1, 11, 11)
    dense = ((q @ k.mT * 0.5) * mask + bias).softmax(-1)
    lazy = AttentionMaps(2, q, k, 0.5, mask, bias)
    assert torch.allclose(torch.cat([b for _, b in lazy.blocks(entries)], 2), dense, atol=1e-6)
    monkeypatch.setattr(AttentionMaps.blocks, '__defaults__', (entries,))
    ours, reference = (attention_statistics(m) for m in (lazy, AttentionMaps.of(dense)))
    for name, value in ours.items():
        assert torch.allclose(value, reference[name], atol=1e-5), name
    assert torch.allclose(lazy.matrix(1, head=2), dense[1, 2], atol=1e-6)
    assert torch.allclose(lazy.matrix(1), dense[1].mean(0), atol=1e-6)
    assert lazy.matrix(dtype=torch.float16).dtype == torch.float16
    loss = AttentionDiversificationLoss()
    with loss.listen() as records:
        from mmrobust.models.layers.listening import observe
        observe(dense)
    assert torch.allclose(ours['adl'], loss.similarity(records[0])[:, 0], atol=1e-6)
    heads = torch.nn.functional.normalize(dense[0].flatten(1), dim=1)
    assert ours['head_similarity'][0].item() == pytest.approx(
        (heads @ heads.T).fill_diagonal_(0).sum().item() / len(heads) / (len(heads) - 1), abs=1e-5)


def test_windows_are_one_map():
    """Two windows of 2 x 2 tokens in a grid of 2 x 4, shifted by one."""
    places, grid = window_places((2, 3), 2, 1)
    assert grid == (2, 4)
    # rolled by one up and left: the first window begins at row 1, column 1
    assert places.tolist() == [[5, 6, 1, 2], [7, 4, 3, 0]]
    weights = torch.rand(2, 1, 4, 4).softmax(-1)
    windowed = AttentionMaps(1, weights=weights, windows=places, grid=grid)
    whole = windowed.matrix()
    assert whole.shape == (8, 8)
    assert whole[5, 2] == weights[0, 0, 0, 3]
    assert whole[5, 0] == 0
    assert torch.allclose(whole.sum(-1), torch.ones(8))
    found = attention_statistics(windowed)
    dense = attention_statistics(AttentionMaps.of(whole[None, None]))
    for name in ('row_entropy', 'effective_tokens', 'diagonality', 'top_share'):
        assert torch.allclose(found[name], dense[name]), name


@pytest.mark.parametrize('tokens, size, expected', [
    (196, (224, 224), ((14, 14), 0)), (197, (224, 224), ((14, 14), 1)),
    (198, (224, 224), ((14, 14), 2)), (128, (128, 256), ((8, 16), 0)), (64, (32, 32), ((8, 8), 0)),
    (60, (88, 160), ((6, 10), 0)), (690, (368, 480), ((23, 30), 0))])
def test_token_grid(tokens, size, expected):
    assert token_grid(tokens, size) == expected


def test_no_grid():
    with pytest.raises(ValueError, match='41 tokens do not form a grid over an image of 64 x 64'):
        token_grid(41, (64, 64))


def test_no_such_head():
    with pytest.raises(ValueError, match='no head 2: the layer has the heads 0 to 1'):
        maps(DIAGONAL, UNIFORM).matrix(head=2)

"""APGD, SegPGD, CosPGD, SEA, Square and AutoAttack against plain formulas and packages."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attack_tools import (
    accuracy,
    build_classifier,
    classifier_batch,
    segmentation_batch,
    segmentor,
    trained_classifier,
)

from mmrobust.attacks.apgd import auto_pgd, shrinking_pgd
from mmrobust.attacks.auto_attack import AutoAttack, Classifier, targeted_loss
from mmrobust.attacks.norms import lengths, project, start_offset
from mmrobust.attacks.pgd import PGD
from mmrobust.attacks.pixels import PIXEL_LOSSES, Pixels, image_iou
from mmrobust.attacks.sea import SegmentationEnsemble
from mmrobust.attacks.square import Bumps, bump, square_attack, square_side
from mmrobust.attacks.victim import Victim


def pixels_of_batch(data):
    return torch.stack(list(data['inputs'])).float() / 255


def toy_pixels(classes=5, number=400, seed=0):
    """Logits in float64 that are often right, a fifth of the pixels without a label."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(classes, number, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes - 1, (number,), generator=generator)
    known = torch.rand(number, generator=generator) < .8
    scores[labels, torch.arange(number)] += 1
    scores.requires_grad_()
    losses = F.cross_entropy(scores.T, labels, reduction='none')
    return Pixels(scores, losses, scores.argmax(0), labels.where(known, 255), known)


def test_pixel_losses_are_the_published_ones():
    """Each written out pixel by pixel."""
    pixels, progress = toy_pixels(), 3 / 7
    p = pixels.scores.detach().softmax(0).numpy()
    expected = dict.fromkeys(PIXEL_LOSSES, 0.)
    known = pixels.known.nonzero()[:, 0].tolist()
    labels = pixels.labels.tolist()
    classes = {labels[i] for i in known}
    for i in known:
        y, ce = labels[i], -np.log(p[labels[i], i])
        right = p[:, i].argmax() == y
        onehot = np.eye(5)[y]
        middle = (p[:, i] + onehot) / 2
        same = sum(labels[j] == y for j in known)
        expected['ce'] += ce
        expected['segpgd'] += (1 - progress / 2 if right else progress / 2) * ce
        expected['cospgd'] += ce * (p[:, i] @ onehot) / np.linalg.norm(p[:, i])
        expected['mask_ce'] += right * ce
        expected['mask_ce_bal'] += right * ce * len(known) / (len(classes) * same)
        expected['js'] += ((p[:, i] * np.log(p[:, i] / middle)).sum() + np.log(1 / middle[y])) / 2
    for name, loss in PIXEL_LOSSES.items():
        assert loss(pixels, progress).item() == pytest.approx(expected[name] / len(known)), name


@pytest.mark.parametrize('name', ['segpgd', 'cospgd'])
def test_weights_are_constants_for_the_gradient(name):
    pixels = toy_pixels()
    gradient, = torch.autograd.grad(PIXEL_LOSSES[name](pixels, .5), pixels.scores)
    p = pixels.scores.detach().softmax(0)
    targets = pixels.targets()
    if name == 'segpgd':
        weight = torch.where(pixels.right, .75, .25)
    else:
        weight = (p * targets).sum(0) / p.norm(dim=0)
    expected = (p - targets) * weight * pixels.known / pixels.known.sum()
    torch.testing.assert_close(gradient, expected)


def test_gradients_of_the_bounded_loss():
    pixels = toy_pixels(number=6)
    assert torch.autograd.gradcheck(lambda scores: PIXEL_LOSSES['js'](Pixels(
        scores, pixels.losses.detach(), pixels.predicted, pixels.labels, pixels.known), 0.),
        pixels.scores)
    # a pixel that is wrong for sure: its share is bounded by the logarithm of 2
    scores = torch.tensor([[60.], [-60.]], dtype=torch.float64)
    sure = Pixels(scores, scores[0], torch.tensor([0]), torch.tensor([1]), torch.tensor([True]))
    assert PIXEL_LOSSES['js'](sure, 0.).item() == pytest.approx(np.log(2))


def test_iou_of_an_image():
    labels, predicted = torch.tensor([0, 0, 1, 1, 255]), torch.tensor([0, 1, 1, 2, 3])
    known = labels != 255
    pixels = Pixels(torch.zeros(5, 5), torch.zeros(5), predicted, labels, known)
    # class 0: 1 of 2, class 1: 1 of 3, class 2: 0 of 1; class 3 is predicted without a label
    assert image_iou(pixels).item() == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)


@pytest.mark.parametrize('loss', ['segpgd', 'cospgd'])
def test_steps_of_weighted_pgd_are_the_published_ones(loss):
    """Step by step on a segmentor: weight, sign, step, clip to ball and range."""
    model, data = segmentor(mode='whole'), segmentation_batch()
    radius, size, steps = 8 / 255, 3 / 255, 4
    attacked = PGD(radius, size, steps, random_start=False, loss=loss)(model, data)
    victim = Victim(model, data)
    clean = current = victim.images
    labels = data['data_samples'][0].gt_sem_seg.data  # (1, H, W)
    for t in range(1, steps + 1):
        current = current.detach().requires_grad_()
        batch = model.data_preprocessor(victim.batch(current), False)
        logits = F.interpolate(
            model.encode_decode(batch['inputs'], [data['data_samples'][0].metainfo]),
            labels.shape[1:], mode='bilinear')
        ce = F.cross_entropy(logits, labels, ignore_index=255, reduction='none')
        if loss == 'segpgd':
            share = (t - 1) / (2 * steps)
            weight = torch.where(logits.argmax(1) == labels, 1 - share, share)
        else:
            onehot = F.one_hot(labels.clamp(max=3), 4).movedim(-1, 1).float()
            weight = F.cosine_similarity(logits.softmax(1), onehot).detach()
        gradient, = torch.autograd.grad((weight * ce).sum(), current)
        current = current.detach() + size * gradient.sign()
        current = current.clamp(clean - radius, clean + radius).clamp(0, 1)
    same = (pixels_of_batch(attacked) - current).abs() < 1e-6
    assert same.float().mean() > .999  # rounding decides the sign of a few


def test_balls():
    generator = torch.Generator().manual_seed(0)
    centre, other = torch.rand(2, 6, 3, 4, 4, generator=generator)
    for norm, radius in (('linf', .1), ('l2', .7)):
        inside = project(other, centre, radius, norm)
        distance = (inside - centre).abs().amax((1, 2, 3)) if norm == 'linf' else lengths(
            inside - centre)
        assert distance.max() <= radius + 1e-6 and inside.min() >= 0 and inside.max() <= 1
        torch.testing.assert_close(project(inside, centre, radius, norm), inside)
    torch.testing.assert_close(lengths(start_offset(other, .7, 'l2')),
                               torch.full((6, 1, 1, 1), .7))


def reference_apgd(x, evaluate, radius, norm, steps, start):
    """Algorithm 1 of the paper for one image, in float64 and with the checkpoints as listed."""
    def fit(z):
        offset = z - x
        if norm == 'linf':
            offset = offset.clip(-radius, radius)
        elif (length := np.sqrt((offset ** 2).sum())) > radius:
            offset = offset * radius / length
        return (x + offset).clip(0, 1)

    def direction(g):
        return np.sign(g) if norm == 'linf' else g / np.sqrt((g ** 2).sum())

    window, marks, at = max(int(.22 * steps), 1), [0], 0
    while at < steps:
        at += window
        marks.append(at)
        window = max(window - max(int(.03 * steps), 1), max(int(.06 * steps), 1))
    points, step = [fit(start)], 2 * radius
    values = [evaluate(points[0])]
    best = best_value = None
    best, best_value = points[0], values[0]
    current, before, value = points[0], points[0], values[0]
    trace, since, halved, best_then = [values[0][0]], 0, True, values[0][0]
    for k in range(steps):
        share = .75 if k else 1.
        z = fit(current + step * direction(value[1]))
        new = fit(current + share * (z - current) + (1 - share) * (current - before))
        before, current = current, new
        value = evaluate(current)
        trace.append(value[0])
        if value[0] > best_value[0]:
            best, best_value = current, value
        if k + 1 in marks:
            rises = sum(trace[i + 1] > trace[i] for i in range(since, k + 1))
            stuck = rises <= .75 * (k + 1 - since) or not halved and best_value[0] <= best_then
            if stuck:
                step, current, value = step / 2, best, best_value
            since, halved, best_then = k + 1, stuck, best_value[0]
    return best, best_value[0]


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_apgd_is_the_papers_algorithm(norm):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 1, 3, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(2, 12, generator=generator, dtype=torch.float64) * 3
    start = torch.rand(images.shape, generator=generator, dtype=torch.float64)
    radius = .3 if norm == 'linf' else .8

    def losses(x):  # with many maxima, so that steps overshoot
        return (x.flatten(1) @ weight.T).sin().sum(1) + 2 * (5 * x.flatten(1)).cos().sum(1)

    def judge(x):
        x = x.detach().requires_grad_()
        value = losses(x)
        gradient, = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient, -value.detach()

    found = auto_pgd(images, judge, radius=radius, norm=norm, steps=37, start=start)
    for i in range(5):
        def evaluate(z):
            value, gradient, _ = judge(torch.as_tensor(z)[None])
            return value.item(), gradient[0].numpy()

        best, value = reference_apgd(images[i].numpy(), evaluate, radius, norm, 37,
                                     start[i].numpy())
        assert found.losses[i].item() == pytest.approx(value)
        np.testing.assert_allclose(found.images[i], best, atol=1e-9)
    torch.testing.assert_close(found.worst_scores, -found.losses)
    shrunk = shrinking_pgd(images, judge, radius=radius, norm=norm, steps=37, start=start)
    torch.testing.assert_close(project(shrunk.images, images, radius, norm), shrunk.images)


def robust(model, data, attack):
    return accuracy(model, attack(model, data))


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_apgd_is_as_strong_as_the_package(norm):
    torchattacks = pytest.importorskip('torchattacks')
    model, data = trained_classifier(), classifier_batch(100)
    radius = 8 / 255 if norm == 'linf' else .8
    classify = Classifier(Victim(model, data)).eval()
    labels = torch.cat([sample.gt_label for sample in data['data_samples']])
    package = torchattacks.APGD(classify, norm=dict(linf='Linf', l2='L2')[norm], eps=radius,
                                steps=20)
    with torch.no_grad():
        theirs = (classify(package(pixels_of_batch(data), labels)).argmax(1) == labels
                  ).double().mean().item()
    ours = robust(model, data, AutoAttack(radius, norm, 'apgd-ce', steps=20))
    assert 0 < theirs < accuracy(model, data) - .1
    assert abs(ours - theirs) <= .01 + 1e-9


def test_autoattack_is_the_worst_of_its_parts():
    model, data = trained_classifier(), classifier_batch(40)
    radius = 10 / 255
    parts = [name for name in ('apgd-ce', 'apgd-t', 'square')]
    single = [robust(model, data, AutoAttack(radius, attacks=[name], steps=10, queries=60))
              for name in parts]
    attack = AutoAttack(radius, attacks=parts, steps=10, queries=60)
    attacked = attack(model, data)
    whole = accuracy(model, attacked)
    # another batch is rounded another way, which may decide for one image
    assert whole <= min(single) + 1 / 40 < 1
    assert min(single) < single[2] < accuracy(model, data)
    assert robust(model, data, PGD(radius, radius / 4, steps=10)) >= whole
    assert (pixels_of_batch(attacked) - pixels_of_batch(data)).abs().max() <= radius + 1e-6
    changed = [sum(record[f'changed_by_{name}'] for record in attack.records) for name in parts]
    right = sum(record['accuracy_before'] for record in attack.records)
    assert right - sum(changed) == sum(r['accuracy_after'] for r in attack.records)
    assert whole == pytest.approx(sum(r['accuracy_after'] for r in attack.records) / 4000)
    # an image's draws are its own
    order = [7, 3, 11, 0]
    few = {key: [value[i] for i in order] for key, value in data.items()}
    alone = AutoAttack(radius, attacks=parts, steps=10, queries=60)(model, few)
    torch.testing.assert_close(pixels_of_batch(alone), pixels_of_batch(attacked)[order])


def test_fab_is_run_within_the_ball():
    pytest.importorskip('torchattacks')
    model, data = trained_classifier(), classifier_batch(16)
    state = torch.get_rng_state()
    attacked = AutoAttack(12 / 255, attacks='fab-t', steps=10)(model, data)
    assert accuracy(model, attacked) < accuracy(model, data)
    assert (pixels_of_batch(attacked) - pixels_of_batch(data)).abs().max() <= 12 / 255 + 1e-5
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_square_needs_no_gradient(norm):
    # the schedule of the paper at 224 x 224: 80 % of the pixels, halved at the listed queries
    assert [square_side(query, 10_000, 224, 224) for query in (1, 11, 51, 201, 8001)] == [
        200, 142, 100, 71, 9]
    model, data = trained_classifier(), classifier_batch(24)
    victim = Victim(model, data)
    classify = Classifier(victim).eval()
    labels = torch.cat([sample.gt_label for sample in data['data_samples']])

    def margins(images):
        logits = classify(images)
        own = logits.gather(1, labels[:, None])[:, 0]
        return own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)

    radius = 16 / 255 if norm == 'linf' else 2.4

    def run(queries):
        return square_attack(victim.images, margins, radius=radius, queries=queries, norm=norm,
                             generators=victim.generators('square', 0))

    images, lowest = run(200)
    assert (run(5)[1] >= lowest - 1e-6).all() and (lowest < 0).any()
    offset = images - victim.images
    assert (offset.abs().max() if norm == 'linf' else lengths(offset).max()) <= radius + 1e-5
    torch.testing.assert_close(margins(images).detach(), lowest)


def test_bumps_of_square_are_the_papers():
    """Entry by entry, and every proposal on the sphere where nothing leaves the range."""
    for side in (1, 2, 3, 6, 7):
        expected = torch.zeros(side, side)
        for first, height, sign in ((0, side // 2, 1), (side // 2, side - side // 2, -1)):
            for ring in range(max(height, side) // 2 + 1):
                for y in range(height):
                    for x in range(side):
                        if max(abs(y - height // 2), abs(x - side // 2)) <= ring:
                            expected[first + y, x] += sign / (ring + 1) ** 2
        torch.testing.assert_close(bump(side), expected / expected.norm())
    search = Bumps(torch.full((2, 3, 17, 23), .5), .4)
    generator = torch.Generator().manual_seed(0)
    current = search.start(torch.rand(2, *search.first, generator=generator))
    for side in (16, 5, 2):
        torch.testing.assert_close(lengths(current - .5), torch.full((2, 1, 1, 1), .4))
        proposed = search.propose(current, torch.rand(2, search.draws, generator=generator), side)
        changed = (proposed != current).any(1).flatten(1).sum(1)
        assert (0 < changed).all()
        current = proposed


def test_targeted_loss_is_the_papers():
    logits = torch.tensor([[5., 1., 3., 2., 0.]])
    loss = targeted_loss(logits, torch.tensor([0]), torch.tensor([3]))
    assert loss.item() == pytest.approx(-(5 - 2) / (5 - (2 + 1) / 2))
    assert targeted_loss(logits[:, :3], torch.tensor([0]), torch.tensor([1])).item() == -4


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_ensemble_on_a_segmentor(norm):
    model, data = segmentor(mode='slide', crop_size=(32, 32), stride=(16, 16)), segmentation_batch()
    radius = 8 / 255 if norm == 'linf' else 1.
    attack = SegmentationEnsemble(radius, norm, steps=10)
    attacked = attack(model, data)
    offset = pixels_of_batch(attacked) - pixels_of_batch(data)
    assert (offset.abs().max() if norm == 'linf' else lengths(offset).max()) <= radius + 1e-5
    record, = attack.records
    after = Victim(model, data).scores(pixels_of_batch(attacked)).item()
    assert record['IoU_after'] == pytest.approx(100 * after)
    assert record['IoU_after'] == min(value for name, value in record.items())
    assert record['IoU_after'] < record['IoU_before']  # the model is not trained
    together = attack.summary(attack.counts)
    assert together['mIoU_greedy'] == pytest.approx(record['IoU_after'])  # of one image
    result = model.test_step(attacked)[0]
    labels = data['data_samples'][0].gt_sem_seg.data
    pixels = Pixels(torch.zeros(4, labels.numel()), torch.zeros(labels.numel()),
                    result.pred_sem_seg.data.flatten(), labels.flatten(), labels.flatten() != 255)
    assert image_iou(pixels).item() == pytest.approx(after)


def test_choice_with_all_images_in_view():
    """Near the best of all choices, never above one attack for all."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        labelled = rng.integers(1, 60, (4, 1, 3)) * rng.integers(0, 2, (4, 1, 3))
        predicted = rng.integers(0, 60, (4, 3, 3))
        counts = np.stack([np.minimum(labelled, predicted) * rng.random((4, 3, 3)), predicted,
                           np.broadcast_to(labelled, (4, 3, 3))], 2)
        found = SegmentationEnsemble(losses=['ce', 'js']).summary(counts)

        def value(choice, counts=counts):
            hits, predicted, labelled = counts[np.arange(4), choice].sum(0)
            with np.errstate(invalid='ignore'):
                return 100 * np.nanmean(hits / (predicted + labelled - hits))

        best = min(map(value, np.ndindex(3, 3, 3, 3)))
        assert best - 1e-9 <= found['mIoU_greedy'] <= min(value([i] * 4) for i in range(3)) + 1e-9
        assert found['mIoU_greedy'] <= best + 3
        assert found['mIoU_after_ce'] == pytest.approx(value([1] * 4))


def test_restarts_keep_the_worst():
    model, data = trained_classifier(), classifier_batch(60)
    settings = dict(radius=5 / 255, step_size=2 / 255, steps=2)
    rates = [robust(model, data, PGD(**settings, restarts=number)) for number in (1, 4)]
    assert rates[1] <= rates[0] < 1
    attack = PGD(**settings)
    attack(model, data)
    assert all(record['loss_last'] > record['loss_first'] for record in attack.records)
    l2 = PGD(.5, .2, 5, norm='l2')
    offset = pixels_of_batch(l2(model, data)) - pixels_of_batch(data)
    assert .4 < lengths(offset).max() <= .5 + 1e-5


@pytest.mark.parametrize(('attack', 'settings', 'message'), [
    (SegmentationEnsemble, dict(radius=0), 'radius=0 must be above 0'),
    (SegmentationEnsemble, dict(radius=-1), 'radius=-1 must be above 0'),
    (SegmentationEnsemble, dict(radius=2), 'radius=2 must be at most 1'),
    (SegmentationEnsemble, dict(steps=0), 'steps=0 must be above 0'),
    (SegmentationEnsemble, dict(losses=['ce', 'mse']), "losses='mse': choose of ce, segpgd"),
    (SegmentationEnsemble, dict(losses=[]), 'losses is empty'),
    (SegmentationEnsemble, dict(norm='l1'), "norm='l1': choose linf or l2"),
    (AutoAttack, dict(queries=0), 'queries=0 must be above 0'),
    (AutoAttack, dict(restarts=.5), 'restarts=0.5 must be a whole number'),
    (AutoAttack, dict(attacks=['fab']), 'attacks=fab: choose of apgd-ce, apgd-t, fab-t, square'),
    (PGD, dict(loss='dice'), "loss='dice': choose ce, segpgd"),
    (PGD, dict(restarts=2, random_start=False), 'restarts=2 without random_start')])
def test_bad_settings(attack, settings, message):
    with pytest.raises(ValueError, match=message):
        attack(**settings)


def test_models_that_do_not_fit():
    with pytest.raises(ValueError, match='attack segmenters with sea'):
        AutoAttack(attacks='apgd-ce')(segmentor(mode='whole'), segmentation_batch())
    with pytest.raises(ValueError, match='an attack on pixels needs label maps'):
        Victim(trained_classifier(), classifier_batch(2)).judge(
            pixels_of_batch(classifier_batch(2)), 'ce')
    with pytest.raises(ValueError, match="loss='segpgd' weighs the pixels of a segmenter"):
        PGD(loss='segpgd')(trained_classifier(), classifier_batch(2))
    model = build_classifier()

    class Hard(torch.nn.Module):
        def forward(self, feats):
            return F.one_hot(feats[0][:, :3].argmax(1), 3).float()

    model.head = Hard()
    with pytest.raises(ValueError, match='no gradient passes from the prediction to the image'):
        AutoAttack(attacks='apgd-ce', steps=1)(model.eval(), classifier_batch(2))

"""What a model makes of one picture, clean beside corrupted: prediction, confidence, attention."""
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from mmrobust.utils.figures import COLOURS, GREY, SEQUENTIAL, SIZES, new_figure, show_image

from .capture import attention_layers, capture_attention, select_layers
from .conditions import CLEAN, Condition
from .maps import cosine, overlay
from .subject import ImageSource, Subject

TOP = 5  # classes that are shown of a classifier


@dataclass
class View:
    """A picture under a condition, and what a model makes of it.

    Attributes:
        condition (Condition): What happened to the picture.
        picture (np.ndarray): What the model was given, (H, W, 3), uint8, RGB.
        labels (np.ndarray, optional): Of a segmenter: the class of each pixel (H', W').
        confidence (np.ndarray): Of a segmenter: the probability of that class, (H', W'). Of a
            classifier: that of each class, (classes,).
        attention (np.ndarray, optional): What the chosen token attends to, over the tokens (h, w).
    """
    condition: Condition
    picture: np.ndarray
    labels: np.ndarray | None
    confidence: np.ndarray
    attention: np.ndarray | None


@dataclass
class Inspection:
    """Views of one picture by one model, clean first.

    Attributes:
        model (str): Its name.
        views (list[View]): Clean, then changed; clean alone if nothing is to change.
        classes (list[str], optional): Names of the classes.
        palette (np.ndarray): Colours of the classes, (classes, 3), uint8.
        layer (str, optional): Whose attention it is; None where the model has none.
    """
    model: str
    views: list[View]
    classes: list[str] | None
    palette: np.ndarray
    layer: str | None

    def summary(self) -> str:
        """A line of numbers: what is predicted, how surely, and how much of it changed."""
        parts = []
        if self.views[0].labels is None:
            parts.append(' → '.join(
                f'{view.condition}: {self.class_name(int(view.confidence.argmax()))} '
                f'{100 * view.confidence.max():.1f} %' for view in self.views))
        else:
            parts.append('mean confidence ' + ' → '.join(
                f'{100 * view.confidence.mean():.1f} % ({view.condition})' for view in self.views))
        if len(self.views) > 1:
            clean, changed = self.views
            if clean.labels is not None:
                parts.append(f'another class in {100 * self.changed().mean():.1f} % of the pixels')
            if self.layer:
                parts.append('cosine of the attention '
                             f'{cosine(clean.attention, changed.attention):.3f}')
        if not self.layer:
            parts.append('no attention that can be shown')
        return '; '.join(parts)

    def changed(self) -> np.ndarray:
        """Where a segmenter predicts another class than on the clean picture, (H', W'), bool."""
        return self.views[0].labels != self.views[-1].labels

    def class_name(self, index: int) -> str:
        """What a class is called."""
        return self.classes[index] if self.classes and index < len(self.classes) else str(index)

    def draw(self) -> Figure:
        """A line for each view: picture, prediction, confidence, attention, and what changed."""
        segments = self.views[0].labels is not None
        several = len(self.views) > 1
        columns = 2 + segments + bool(self.layer) + (segments and several)
        height, width = self.views[0].picture.shape[:2]
        figure, axes = new_figure(2.4 * columns, (2.4 * max(height / width, 0.55) + 0.3)
                                  * len(self.views), len(self.views), columns)
        top = max((float(view.attention.max()) for view in self.views if self.layer), default=1.)
        for row, view in zip(axes, self.views, strict=True):
            line = iter(row)
            axis = next(line)
            show_image(axis, view.picture, 'picture')
            axis.set_ylabel(str(view.condition), fontsize=SIZES['label'])
            if segments:
                show_image(next(line), self._coloured(view.labels), 'prediction')
                show_image(next(line), view.confidence, f'confidence, mean '
                           f'{view.confidence.mean():.2f}', cmap=SEQUENTIAL, vmin=0, vmax=1)
            else:
                self._bars(next(line), view.confidence)
            if self.layer:
                show_image(next(line), overlay(view.picture, view.attention / (top or 1.)),
                           'attention')
            if segments and several:
                axis = next(line)
                axis.set_visible(view is not self.views[0])
                picture = self._coloured(view.labels)
                picture[~self.changed()] = 235
                show_image(axis, picture, 'what changed')
        return figure

    def _coloured(self, labels: np.ndarray) -> np.ndarray:
        return self.palette[labels]

    def _bars(self, axis: Any, confidence: np.ndarray) -> None:
        best = np.argsort(-confidence, kind='stable')[:TOP][::-1]
        first = int(self.views[0].confidence.argmax())
        axis.barh(range(len(best)), confidence[best],
                  color=[COLOURS[0] if index == first else GREY for index in best])
        for place, index in enumerate(best):
            axis.text(0.02, place, f'{self.class_name(index)[:24]}  {confidence[index]:.2f}',
                      va='center', fontsize=SIZES['tick'],
                      bbox=dict(facecolor='white', edgecolor='none', alpha=0.7, pad=0.8))
        axis.grid(False)
        axis.set(xlim=(0, 1), yticks=[])
        axis.set_title('prediction, confidence', fontsize=SIZES['title'])


def inspect(subject: Subject, source: ImageSource, image: int | str, condition: Condition,
            layer: str | int = -1, query: tuple[float, float] = (0.5, 0.5)) -> Inspection:
    """Let a model look at a picture, clean and under a condition.

    Args:
        subject (Subject): A segmenter or a classifier.
        source (ImageSource): Its test data.
        image (int | str): Position in them, or an image file.
        condition (Condition): What to change; if clean, nothing is compared.
        layer (str | int): Name or position of an attention layer. Defaults to the last.
        query (tuple[float, float]): The token whose attention is shown: its place from the top
            and from the left, as parts of the image.

    Raises:
        ValueError: If the model predicts neither one class nor a segmentation, or has attention
            but no such layer.
    """
    try:
        names = list(attention_layers(subject.model))
    except ValueError:  # a model without attention is worth looking at, too
        chosen = None
    else:
        chosen, = select_layers(names, [layer])
    views = [_view(subject, source, image, seen, chosen, query)
             for seen in dict.fromkeys((CLEAN, condition))]
    meta = source.known_meta
    labels = views[0].labels
    number = len(views[0].confidence) if labels is None else 1 + max(
        int(view.labels.max()) for view in views)
    palette = np.array(meta.get('palette') or [], np.uint8).reshape(-1, 3)
    if len(palette) < number:
        palette = (colormaps['hsv'](np.linspace(0, 1, number, endpoint=False))[:, :3]
                   * 255).astype(np.uint8)
    return Inspection(subject.name, views, meta.get('classes'), palette, chosen)


def _view(subject: Subject, source: ImageSource, image: int | str, condition: Condition,
          layer: str | None, query: tuple[float, float]) -> View:
    data = subject.look(source, image, condition)
    labels, confidence = _prediction(subject, subject.predict(data))
    attention = size = None
    if layer is not None:
        with capture_attention(subject.model, [layer]) as captured:
            subject.run(data)
        attention = captured[layer].query_map(query).cpu().numpy()
        size = captured[layer].image_size
    return View(condition, source.display(data, size), labels, confidence, attention)


def _prediction(subject: Subject, sample: Any) -> tuple[np.ndarray | None, np.ndarray]:
    """Label map (None of a classifier) and confidence."""
    if 'pred_sem_seg' in sample and 'seg_logits' in sample:
        logits = sample.seg_logits.data.float()  # (classes, H, W)
        labels = sample.pred_sem_seg.data.squeeze(0).long()
        if len(logits) == 1:  # one score for the second of two classes
            score = logits[0].sigmoid()
            confidence = torch.where(labels == 1, score, 1 - score)
        else:
            confidence = logits.softmax(0).amax(0)
        return labels.cpu().numpy(), confidence.cpu().numpy()
    if 'pred_score' in sample and sample.get('pred_label') is not None \
            and sample.pred_label.numel() == 1:
        return None, sample.pred_score.float().cpu().numpy()
    raise ValueError(f'{subject.name} predicts neither one class per image nor one per pixel: '
                     'give a classifier or a segmenter')

"""What is looked at: a trained model and images of its test data, under conditions."""
import copy
import os
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, TRANSFORMS, DefaultScope
from mmengine.runner import CheckpointLoader
from torch import nn

from mmrobust.checkpoints import guard_loading, load_weights
from mmrobust.datasets.delivery import Delivery, delivery
from mmrobust.datasets.images import is_local, read_image, shown
from mmrobust.datasets.labels import check_batch, check_class_count
from mmrobust.datasets.pipeline import (
    NamingCompose,
    edit_loading,
    image_root,
    leaves,
    loading_step,
    what_it_reads,
)
from mmrobust.datasets.transforms.corrupt import Corrupt, relative_path
from mmrobust.datasets.transforms.read_image import ReadImage
from mmrobust.utils.mistakes import reading

from .conditions import CLEAN, Condition

TITLE = 24  # characters


@dataclass
class Subject:
    """A model, its config, and what figures call it."""
    name: str
    model: nn.Module
    cfg: Config

    @classmethod
    def load(cls, cfg: Config, checkpoint: str | None, name: str | None = None,
             device: str = 'cpu', trust: bool = False) -> 'Subject':
        """Build the model of a config and load its weights.

        Args:
            cfg (Config): Full config.
            checkpoint (str, optional): Weights; None leaves the model as it is initialised.
            name (str, optional): Defaults to the config's file name.
            device (str): Where it runs.
            trust (bool): Whether the checkpoint may run code of its own.

        Raises:
            ValueError: If the checkpoint is of another architecture.
        """
        with guard_loading(trust), own_scope(cfg):
            config = without_pretrained(cfg.model)
            if cfg.get('data_preprocessor') is not None:
                # MMPretrain's configs have it beside the model; MMEngine's runner puts it there
                config.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
            model = MODELS.build(config)
            if checkpoint is not None:
                load_weights(model, CheckpointLoader.load_checkpoint(
                    checkpoint, 'cpu', logger='silent'), where=f"'{checkpoint}'")
        return cls(name or Path(cfg.filename).stem, model.to(device).eval(), cfg)

    def prepare(self, *images: dict) -> dict:
        """Images of the test data as a batch for the model."""
        return self.model.data_preprocessor(pseudo_collate(images), False)

    def look(self, source: 'ImageSource', image: int | str, condition: Condition = CLEAN) -> dict:
        """One image under a condition, as the pipeline packs it for this model.

        Args:
            source (ImageSource): The test data.
            image (int | str): Position in them, or an image file.
            condition (Condition): Corruption, occlusion, or neither.
        """
        load = source.load_file if isinstance(image, str) else source.load
        return condition.change(self.model, load(image, condition))

    @torch.inference_mode()
    def run(self, *images: dict) -> Any:
        """Run the network on whole images, whatever way of testing the config chooses."""
        batch = self.prepare(*images)
        return self.model(batch['inputs'], batch.get('data_samples'), mode='tensor')

    @torch.inference_mode()
    def predict(self, data: dict) -> Any:
        """The prediction (a data sample), as in a test.

        Raises:
            ValueError: If a label is none of the model's classes.
        """
        check_batch(self.model, dict(data_samples=[data.get('data_samples')]))
        return self.model.test_step(pseudo_collate([data]))[0]


def own_scope(cfg: Config) -> AbstractContextManager:
    """In which the names of a config are those of its library, whichever was read last."""
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope'))


def without_pretrained(model: Any) -> Any:
    """A model's config without the files that training starts from."""
    if isinstance(model, dict):
        kept = {key: without_pretrained(value) for key, value in model.items()
                if key != 'pretrained'}
        start = kept.get('init_cfg')
        if isinstance(start, dict) and start.get('type') == 'Pretrained':
            kept['init_cfg'] = None
        return type(model)(kept)
    if isinstance(model, (list, tuple)):
        return type(model)(map(without_pretrained, model))
    return model


class ImageSource:
    """The images of a config's test data, each clean or corrupted.

    Args:
        cfg (Config): Full config.
        dataset (dict, optional): Config of another data set; without a pipeline it gets the
            config's.

    Raises:
        ValueError: If there is no test or validation data.
    """
    def __init__(self, cfg: Config, dataset: dict | None = None):
        loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
        if not loader:
            raise ValueError('the config has neither test_dataloader nor val_dataloader: the '
                             'images to look at come from there')
        with reading(f"the test data of the config '{cfg.filename}'", 'correct test_dataloader'):
            configs = [copy.deepcopy(leaf) for leaf in leaves(loader.dataset)]
            if dataset is not None:
                configs = [{'pipeline': configs[0].get('pipeline', []), **dataset}]
            self.cfg, self._leaves = cfg, configs
            self._delivered: dict[tuple[int, int], tuple[Delivery, Any, Any]] = {}
            self.pipeline = configs[0]['pipeline']
            # data sets of decoded images, such as MMPretrain's CIFAR10, hold RGB; files are BGR
            self.decoded = not any(what_it_reads(step) == 'img_path' for step in self.pipeline)

    @cached_property
    def datasets(self) -> list:
        """The data sets, which need not be there for image files alone."""
        with own_scope(self.cfg):
            return [DATASETS.build(leaf) for leaf in self._leaves]

    @cached_property
    def places(self) -> list[tuple[Any, int]]:
        """Data set and position in it of every image.

        Raises:
            ValueError: If there is none.
        """
        places = [(data, i) for data in self.datasets for i in range(len(data))]
        if not places:
            raise ValueError(f'{type(self.datasets[0]).__name__} has no image: check its data_root')
        return places

    def __len__(self) -> int:
        return len(self.places)

    @property
    def meta(self) -> dict:
        """Classes and palette."""
        return self.datasets[0].metainfo

    @property
    def known_meta(self) -> dict:
        """Classes and palette as far as they are known without the data being there."""
        leaf = self._leaves[0]
        with own_scope(self.cfg), DATASETS.switch_scope_and_registry(None) as registry:
            kind = leaf['type'] if isinstance(leaf['type'], type) else registry.get(leaf['type'])
            meta = {**getattr(kind, 'METAINFO', {}),
                    **(leaf.get('metainfo') or {})}
        return {key: value for key, value in meta.items() if isinstance(value, (list, tuple))}

    def check_classes(self, subjects: Sequence[Subject]) -> None:
        """See that the labels mean to the models what they mean to the data.

        Raises:
            ValueError: If a model has more classes, as where a folder of a class is not there.
        """
        for subject in subjects:
            for dataset in self.datasets:
                check_class_count(subject.model, dataset)

    def choose(self, number: int, seed: int = 0, indices: Sequence[int] | None = None
               ) -> list[int]:
        """Some images: the given ones, or ``number`` of them drawn by ``seed``.

        Raises:
            ValueError: If there is no such image, or no image is wanted.
        """
        if indices is not None:
            for index in indices:
                if not 0 <= index < len(self):
                    raise ValueError(f'there is no image {index}: the test data have '
                                     f'{len(self)}, 0 to {len(self) - 1}')
            return list(indices)
        if number < 1:
            raise ValueError(f'{number} images: there is nothing to look at, take at least 1')
        return sorted(random.Random(seed).sample(range(len(self)), min(number, len(self))))

    def load(self, index: int, condition: Condition = CLEAN) -> dict:
        """An image with its labels as the pipeline packs it.

        Raises:
            ImageDecodeError: If the file is damaged.
            FileNotFoundError: If it is not there.
        """
        data, i = self.places[index]
        results = data.get_data_info(i)
        return self._apply(data.pipeline.transforms, results, condition, data)

    def load_file(self, path: str, condition: Condition = CLEAN) -> dict:
        """An image file, without labels, as the pipeline packs it.

        Raises:
            FileNotFoundError: If it is not there.
            ImageDecodeError: If it is no image.
        """
        if is_local(path) and not os.path.exists(path):
            raise FileNotFoundError(f'there is no image {shown(path)}: name a file, or the number '
                                    'of an image of the test data')
        with own_scope(self.cfg):
            steps = [TRANSFORMS.build(step) for step in self.pipeline
                     if what_it_reads(step) != 'seg_map_path']
        results = dict(img_path=str(path), img_id=0, sample_idx=0)
        if self.decoded and loading_step(steps, dict(results)) is None:
            image = np.ascontiguousarray(read_image(path)[..., ::-1])
            results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return self._apply(steps, results, condition, _ImageFile([results]))

    def _apply(self, transforms: Sequence[Any], results: dict, condition: Condition,
               dataset: Any) -> dict:
        """The pipeline, with the corruption right after the image is loaded, as in a benchmark."""
        def corruption(loading: Any) -> list:
            if condition.corruption is None:
                return []
            key = id(dataset), id(loading)
            if key not in self._delivered:  # kept with both, so that no others get their ids
                self._delivered[key] = delivery(dataset, loading), dataset, loading
            found, *_ = self._delivered[key]
            return [Corrupt(root=image_root(dataset) or None, image_order=found.order,
                            peak=found.peak, **condition.corruption)]

        steps = edit_loading(transforms, dataset, lambda step: [ReadImage(step), *corruption(step)])
        if steps is None:
            steps = [*corruption(None), *transforms]
        return NamingCompose(steps)(results)

    def display(self, data: dict, size: tuple[int, int] | None = None) -> np.ndarray:
        """What the model is given, as RGB uint8 (H, W, 3).

        Args:
            data (dict): An image of :meth:`load` or :meth:`load_file`.
            size (tuple[int, int], optional): Pad to this height and width, as the model does.
        """
        image = data['inputs'].expand(3, -1, -1).permute(1, 2, 0)  # (H, W, 3)
        image = image.float().round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        if size is not None:
            image = np.pad(image, ((0, max(0, size[0] - image.shape[0])),
                                   (0, max(0, size[1] - image.shape[1])), (0, 0)))
        return image if self.decoded else np.ascontiguousarray(image[..., ::-1])

    def name(self, image: int | str) -> str:
        """Folder and name of an image, which tell it from the others; else its number."""
        if isinstance(image, str):
            return relative_path(image, None)
        data, i = self.places[image]
        path = data.get_data_info(i).get('img_path')
        return relative_path(path, None) if path else f'{image:05d}'

    def title(self, image: int | str) -> str:
        """What fits beside a picture: the name without the ending that all images share."""
        name = readable(self.name(image))
        shared = None if isinstance(image, str) else getattr(self.datasets[0], 'img_suffix', None)
        text = name.removesuffix(
            shared if shared and name.endswith(shared) else Path(name).suffix)
        return text if len(text) <= TITLE else Path(text).name[-TITLE:]


class _ImageFile(list):
    """What is known of an image file, as a data set."""

    def get_data_info(self, index: int) -> dict:
        return dict(self[index])


def readable(name: str) -> str:
    """A file name as text that can be drawn, also where its bytes are no UTF-8."""
    return os.fsencode(name).decode('utf-8', 'replace')

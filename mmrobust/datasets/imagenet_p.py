"""ImageNet-P: short videos in which a perturbation slowly grows."""
from collections.abc import Sequence
from itertools import chain
from typing import Any

import cv2
import numpy as np
from mmengine.dataset import default_collate
from mmengine.registry import DATASETS

from .imagenet_variants import WnidFolders
from .perturbations import DEFAULT_NUM_FRAMES, EXTRA_PERTURBATIONS, NUM_FRAMES, PERTURBATIONS
from .pipeline import without_loading


def read_frames(path: str, num_frames: int | None = None) -> list[np.ndarray]:
    """Decode all frames of a video.

    Args:
        path (str): The video file.
        num_frames (int, optional): How many frames it should have.

    Returns:
        list[np.ndarray]: BGR images (H, W, 3), uint8.

    Raises:
        ValueError: If it cannot be decoded, or has another number of frames.
    """
    video = cv2.VideoCapture(path)
    frames = []
    try:
        while (read := video.read())[0]:
            frames.append(read[1])
    finally:
        video.release()
    if not frames:
        raise ValueError(f'cannot decode the video {path}: fetch the file again.')
    if num_frames is not None and len(frames) != num_frames:
        raise ValueError(
            f'the video {path} has {len(frames)} frames instead of {num_frames}: fetch the file '
            f'again, or set num_frames if your copy was made with another length.')
    return frames


def collate_sequences(batch: Sequence[Sequence[dict]]) -> dict:
    """Make one batch of the frames of several sequences, each in order and in one piece."""
    return default_collate(list(chain.from_iterable(batch)))


@DATASETS.register_module(force=True)
class ImageNetP(WnidFolders):
    """One perturbation of ImageNet-P: ``<data_root>/<perturbation>/<wnid>/<sequence>.mp4``.

    Hendrycks and Dietterich, ICLR 2019. An item is the list of the sequence's packed frames, so
    the data loader needs ``collate_fn=dict(type='mmrobust.datasets.imagenet_p.collate_sequences')``
    and its batch size counts sequences. The frames are 224 x 224: the pipeline should resize
    them only for a model of another size; a step that loads image files is left out.

    Args:
        data_root (str): The folder with the perturbations' folders.
        perturbation (str): Name of the perturbation.
        difficulty (int): 1, 2 or 3. Noise of a higher difficulty lies in a folder of its own,
            such as ``gaussian_noise_2``; the other perturbations then compare frames that lie
            ``difficulty`` apart.
        num_frames (int, optional): Frames of a sequence; the published number by default.
        **kwargs: Arguments of :class:`WnidFolders`.
    """

    def __init__(self,
                 data_root: str,
                 perturbation: str,
                 difficulty: int = 1,
                 num_frames: int | None = None,
                 pipeline: Sequence = (),
                 **kwargs) -> None:
        known = PERTURBATIONS + EXTRA_PERTURBATIONS
        if perturbation not in known:
            raise ValueError(f'unknown perturbation {perturbation!r}: ImageNet-P has '
                             f'{", ".join(known)}.')
        if difficulty not in (1, 2, 3):
            raise ValueError(f'difficulty must be 1, 2 or 3, got {difficulty!r}.')
        noise = 'noise' in perturbation
        folder = f'{perturbation}_{difficulty}' if noise and difficulty > 1 else perturbation
        self.num_frames = num_frames or NUM_FRAMES.get(perturbation, DEFAULT_NUM_FRAMES)
        metainfo = dict(noise=noise, stride=1 if noise else difficulty,
                        num_frames=self.num_frames)
        super().__init__(data_root, data_prefix=folder, extensions=('.mp4', ),
                         metainfo=metainfo, pipeline=without_loading(pipeline), **kwargs)

    def prepare_data(self, idx: int) -> list[Any]:
        """Decode a sequence and send its frames through the pipeline one by one."""
        info = self.get_data_info(idx)
        return [
            self.pipeline(dict(info, img=frame, img_shape=frame.shape[:2],
                               ori_shape=frame.shape[:2]))
            for frame in read_frames(info['img_path'], self.num_frames)
        ]

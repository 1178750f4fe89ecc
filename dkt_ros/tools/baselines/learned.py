"""
Other methods in the same table: which there are, where their weights come from, what they give.

Each is an adapter that runs as soon as its weights lie in a folder; nothing is downloaded here.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np

from dkt_ros.errors import UserError
from dkt_ros.resources import cache_dir

KINDS = ('disparity', 'depth', 'metric', 'normals')


@dataclass(frozen=True)
class Prediction:
    """
    What a method says about a clip.

    Attributes
    ----------
    kind : str
        'disparity' and 'depth' are affine-invariant (inverse depth and depth), 'metric' is in
        metres, 'normals' are unit vectors in the optical frame.
    values : (T, h, w) or (T, h, w, 3) float32
        At the method's own size.

    """

    kind: str
    values: np.ndarray

    def __post_init__(self) -> None:
        dims = 4 if self.kind == 'normals' else 3
        if self.kind not in KINDS or self.values.ndim != dims:
            raise ValueError(f'a prediction of kind {self.kind!r} has the shape '
                             f'{self.values.shape}; kinds: {", ".join(KINDS)}')

    def frame(self, index: int, height: int, width: int) -> np.ndarray:
        """Return one frame at the size of the image [px]; normals have unit length again."""
        image = cv2.resize(np.asarray(self.values[index], np.float32), (width, height),
                           interpolation=cv2.INTER_LINEAR)
        if self.kind == 'normals':
            image = image / np.maximum(np.linalg.norm(image, axis=-1, keepdims=True), 1e-6)
        return image


Predict = Callable[[np.ndarray, float], Prediction]
"""(frames (T, H, W, 3) uint8, frame rate [Hz]) -> Prediction."""


@dataclass(frozen=True)
class Method:
    """A method and what a user must fetch for it."""

    loader: str = field(repr=False)
    source: str
    licence: str
    files: tuple[str, ...]


HUB = 'https://huggingface.co/'
METHODS: dict[str, Method] = {
    'depth_anything_v2': Method(
        'depth_anything:load', f'{HUB}depth-anything/Depth-Anything-V2-Small-hf',
        'Apache-2.0 (Small); CC BY-NC 4.0 (Base, Large)', ('config.json', 'model.safetensors')),
    'marigold_e2e_ft': Method(
        'marigold:load_depth', f'{HUB}GonzaloMG/marigold-e2e-ft-depth', 'as its card says',
        ('unet', 'vae', 'scheduler', 'text_encoder', 'tokenizer')),
    'marigold_e2e_ft_normals': Method(
        'marigold:load_normals', f'{HUB}GonzaloMG/marigold-e2e-ft-normals', 'as its card says',
        ('unet', 'vae', 'scheduler', 'text_encoder', 'tokenizer')),
    'video_depth_anything': Method(
        'external:video_depth_anything', 'https://github.com/DepthAnything/Video-Depth-Anything, '
        'its checkpoints/ filled', 'Apache-2.0 (Small); CC BY-NC 4.0 (Base, Large)',
        ('run.py', 'checkpoints')),
    'depthcrafter': Method(
        'external:depthcrafter', 'https://github.com/Tencent/DepthCrafter, with '
        f'{HUB}tencent/DepthCrafter in unet/ and stabilityai/stable-video-diffusion-img2vid-xt in '
        'svd/', "Tencent's licence, non-commercial", ('run.py', 'unet', 'svd')),
    'normalcrafter': Method(
        'external:normalcrafter', 'https://github.com/Binyr/NormalCrafter, with '
        f'{HUB}Yanrui95/NormalCrafter in weights/ and stabilityai/'
        'stable-video-diffusion-img2vid-xt in svd/', 'as its card says',
        ('run.py', 'weights', 'svd')),
}


def models_folder() -> Path:
    """Return where weights are looked for when no folder is given."""
    return cache_dir() / 'baselines'


def load_method(name: str, folder: str | Path | None = None, device: str = 'cpu') -> Predict:
    """
    Load a method from `folder`/`name`.

    Raises
    ------
    UserError
        If the method is unknown or its weights are not there; the sentence says where to get them.

    """
    if name not in METHODS:
        raise UserError(f'method is {name!r}; allowed: {", ".join(METHODS)}')
    method, place = METHODS[name], Path(folder or models_folder()).expanduser() / name
    missing = [part for part in method.files if not (place / part).exists()]
    if missing:
        raise UserError(f'baseline {name} has no weights: {place} lacks {", ".join(missing)}; get '
                        f'them from {method.source} (licence: {method.licence})')
    module, _, function = method.loader.partition(':')
    loader = getattr(import_module(f'dkt_ros.tools.baselines.{module}'), function)
    return loader(place, device)


def batches(frames: np.ndarray, size: int = 4) -> list[np.ndarray]:
    """Cut a clip (T, ...) into parts of at most `size` frames."""
    return [frames[i:i + size] for i in range(0, len(frames), size)]

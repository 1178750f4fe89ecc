"""
Methods that no library has: their own repository is run as a program, on a video, into a folder.

Video Depth Anything, DepthCrafter, NormalCrafter: the folder holds a clone with its weights. The
program runs under `.venv/bin/python` of that folder where there is one, else under this one's.
"""
from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from dkt_ros.errors import RunError, UserError
from dkt_ros.geometry import opengl_to_optical
from dkt_ros.tools.baselines.learned import Predict, Prediction

ENCODERS = ('vitl', 'vitb', 'vits')


def video_depth_anything(folder: Path, device: str) -> Predict:
    """Video Depth Anything (Chen et al. 2025): disparity; the largest encoder that is there."""
    encoder = next((name for name in ENCODERS if
                    (folder / 'checkpoints' / f'video_depth_anything_{name}.pth').is_file()), None)
    if encoder is None:
        raise UserError(f'{folder / "checkpoints"} holds no video_depth_anything_*.pth; allowed: '
                        f'{", ".join(ENCODERS)}')
    precision = ['--fp32'] if device == 'cpu' else []

    def arguments(video: Path, out: Path) -> list[str]:
        return ['--input_video', str(video), '--output_dir', str(out), '--encoder', encoder,
                '--save_npz', *precision]

    return _program(folder, arguments, 'clip_depths.npz', 'depths', 'disparity')


def depthcrafter(folder: Path, device: str) -> Predict:
    """DepthCrafter (Hu et al. 2024): disparity; needs a GPU."""
    return _crafter(folder, 'unet', '--save_npz', 'disparity')


def normalcrafter(folder: Path, device: str) -> Predict:
    """NormalCrafter (Bin et al. 2025): normals, y up and z towards the camera; needs a GPU."""
    return _crafter(folder, 'weights', '--save-npz', 'normals')


def _crafter(folder: Path, unet: str, save: str, kind: str) -> Predict:
    def arguments(video: Path, out: Path) -> list[str]:
        return ['--video-path', str(video), '--save-folder', str(out), '--unet-path',
                str(folder / unet), '--pre-train-path', str(folder / 'svd'),
                '--process-length', '-1', '--target-fps', '-1', save, 'True']

    return _program(folder, arguments, 'clip.npz', 'depth', kind)


def _program(folder: Path, arguments: Callable[[Path, Path], list[str]], result: str, key: str,
             kind: str) -> Predict:
    def predict(frames: np.ndarray, fps: float) -> Prediction:
        with tempfile.TemporaryDirectory() as scratch:
            video, out = Path(scratch) / 'clip.mp4', Path(scratch) / 'out'
            out.mkdir()
            _write_video(video, frames, fps)
            _run(folder, arguments(video, out))
            if not (out / result).is_file():
                raise RunError(f'{folder / "run.py"} ended well and left no {result}; its version '
                               'is another than the one this adapter knows')
            with np.load(out / result) as archive:
                values = np.asarray(archive[key], np.float32)
        if len(values) != len(frames):
            raise RunError(f'{folder / "run.py"} gave {len(values)} frames for {len(frames)}')
        return Prediction(kind, opengl_to_optical(values) if kind == 'normals' else values)

    return predict


def _run(folder: Path, arguments: list[str]) -> None:
    own = folder / '.venv' / 'bin' / 'python'
    command = [str(own) if own.exists() else sys.executable, 'run.py', *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        last = ' '.join(done.stderr.strip().splitlines()[-3:]) or 'nothing on stderr'
        raise RunError(f'{" ".join(command[:2])} in {folder} ended with {done.returncode}: {last}')


def _write_video(path: Path, frames: np.ndarray, fps: float) -> None:
    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, (width, height))
    try:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
    finally:
        writer.release()

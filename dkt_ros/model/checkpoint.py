"""
Published weight files as one mapping from name to tensor, read one tensor at a time.

safetensors and PyTorch files; of the latter nothing but tensors is ever unpickled.
"""
from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from dkt_ros.errors import UserError

TORCH_SUFFIXES = ('.pth', '.pt', '.bin')
DTYPES = {'BF16': torch.bfloat16, 'F16': torch.float16, 'F32': torch.float32,
          'F64': torch.float64}


class Checkpoint(Mapping[str, torch.Tensor]):
    """
    Tensors of one or several files.

    Parameters
    ----------
    paths : sequence of Path
        Files of one model; a name occurs in one of them only.

    Raises
    ------
    UserError
        If a file is missing, truncated or of an unknown kind, holds anything but tensors of
        floating point, or repeats a name of another file.

    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = [Path(path) for path in paths]
        self._tensors: dict[str, torch.Tensor] = {}
        self._files: dict[str, safe_open] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for path in self.paths:
            self._open(path)
        if not self.shapes:
            raise UserError(f'{", ".join(map(str, self.paths))} holds no tensors; get the file '
                            'again')

    def __getitem__(self, key: str) -> torch.Tensor:
        if key in self._files:
            return self._files[key].get_tensor(key)
        return self._tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __contains__(self, key: object) -> bool:
        return key in self.shapes

    def _open(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f'weight file {path} does not exist')
        if path.suffix == '.safetensors':
            self._open_safetensors(path)
        elif path.suffix in TORCH_SUFFIXES:
            for key, tensor in read_torch(path).items():
                self._add(key, tuple(tensor.shape), path)
                self._tensors[key] = tensor
        else:
            raise UserError(f'weight file {path} ends in {path.suffix!r}; known: .safetensors, '
                            f'{", ".join(TORCH_SUFFIXES)}')

    def _open_safetensors(self, path: Path) -> None:
        with _told(path):
            file = safe_open(str(path), framework='pt')
            for key in file.keys():  # noqa: SIM118, safe_open is no dictionary
                part = file.get_slice(key)
                if part.get_dtype() not in DTYPES:
                    raise UserError(f'tensor {key!r} of {path} is {part.get_dtype()}; one of '
                                    f'{", ".join(DTYPES)} is expected: give the unquantised file')
                self._add(key, tuple(part.get_shape()), path)
                self._files[key] = file

    def _add(self, key: str, shape: tuple[int, ...], path: Path) -> None:
        if key in self.shapes:
            raise UserError(f'tensor {key!r} of {path} is in another file too; give the files of '
                            'one model')
        self.shapes[key] = shape


def read_torch(path: Path) -> dict[str, torch.Tensor]:
    """
    Read a PyTorch file of tensors, mapped into memory where its format allows.

    Raises
    ------
    UserError
        If it is truncated, or holds anything but named tensors, code above all.

    """
    with _told(path):
        try:
            content = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
        except RuntimeError as error:
            if 'mmap' not in str(error):
                raise
            content = torch.load(path, map_location='cpu', weights_only=True)
    if not isinstance(content, dict) or not all(
            isinstance(value, torch.Tensor) and value.is_floating_point()
            for value in content.values()):
        raise UserError(f'{path} holds something else than named tensors of floating point; give '
                        'the published file')
    return content


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what libraries say of a bad file into a sentence."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise UserError(f'{path} holds more than tensors (code, possibly), or is no PyTorch '
                        'file; it was not executed: get the published file') from error
    except (SafetensorError, OSError, RuntimeError, EOFError) as error:
        reason = ' '.join(str(error).split()).partition('. ')[0][:200]
        raise UserError(f'weight file {path} is truncated or broken ({reason}); get it '
                        'again') from error


def find_weights(folder: Path, pattern: str) -> list[Path]:
    """
    Return the safetensors files of a model in a folder, single or in shards.

    Raises
    ------
    UserError
        If there is none, or the index names a file that is not there.

    """
    files = sorted(folder.glob(pattern))
    if not files:
        raise UserError(f'{folder} has no {pattern}; give the folder of the published files')
    for index in sorted(folder.glob(pattern + '.index.json')):
        try:
            named = set(json.loads(index.read_text())['weight_map'].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f'{index} is no index of shards ({error}); get it again') from error
        lacking = sorted(named - {path.name for path in files})
        if lacking:
            raise UserError(f'{folder} lacks {lacking[0]} ({len(lacking)} of {len(named)} '
                            'shards); download the rest')
        return [path for path in files if path.name in named]
    return files

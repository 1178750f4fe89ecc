"""
TensorRT engines: built from ONNX graphs, kept under a key of all that they depend on.

An engine is a convenience, never needed: where none fits and none can be built, the same step runs
in torch and the log says why.
"""
from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from dkt_ros.errors import UserError
from dkt_ros.resources import cache_dir

log = logging.getLogger(__name__)
WORKSPACE_BYTES = 8 << 30


@dataclass(frozen=True)
class EngineKey:
    """
    What an engine is good for, and for nothing else.

    Attributes
    ----------
    graph : str
        Which step: `dit`, `encode` or `decode`.
    model : str
        Hash of the model folder.
    gpu : str
        Name and compute capability.
    tensorrt, torch : str
        Versions.
    shapes : tuple of tuple of int
        Of the inputs.
    dtype : str
        Of the weights.
    options : str
        What is baked in: tasks and held latents.

    """

    graph: str
    model: str
    gpu: str
    tensorrt: str
    torch: str
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    options: str = ''

    @property
    def digest(self) -> str:
        """A file name for it."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:24]


class EngineCache:
    """
    Engines in a folder: `<graph>-<digest>.engine`, and beside each a `.json` that tells its key.

    Parameters
    ----------
    folder : Path
        Made when the first engine is stored.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def load(self, key: EngineKey) -> bytes | None:
        """Return the engine of exactly this key, or None; say what differs if others are there."""
        path = self._path(key)
        if path.is_file():
            return path.read_bytes()
        for other in self._others(key):
            differences = [f'{name} was {other.get(name)!r} and is {value!r}'
                           for name, value in _plain(key).items() if other.get(name) != value]
            log.warning('the engine for %s does not fit any more: %s', key.graph,
                        '; '.join(differences))
        return None

    def store(self, key: EngineKey, engine: bytes) -> Path:
        """Keep an engine; it is there whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(key)
        for target, content in ((path.with_suffix('.json'),
                                 json.dumps(_plain(key), indent=2).encode()), (path, engine)):
            with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
                file.write(content)
            os.replace(file.name, target)
        return path

    def obtain(self, key: EngineKey, build: Callable[[], bytes]) -> bytes | None:
        """
        Return the engine of this key, built now if need be.

        Parameters
        ----------
        key : EngineKey
            What is wanted.
        build : callable
            Builds it; takes minutes.

        Returns
        -------
        bytes or None
            None if it cannot be built; the log says why.

        """
        engine = self.load(key)
        if engine is not None:
            return engine
        log.warning('building the TensorRT engine for %s; this takes minutes, once', key.graph)
        try:
            engine = build()
        except (UserError, RuntimeError, OSError) as error:
            log.warning('no TensorRT engine for %s (%s); it runs in torch', key.graph, error)
            return None
        self.store(key, engine)
        return engine

    def _path(self, key: EngineKey) -> Path:
        return self.folder / f'{key.graph}-{key.digest}.engine'

    def _others(self, key: EngineKey) -> list[dict]:
        """Return the keys of engines for the same graph and shapes."""
        found = []
        for path in sorted(self.folder.glob(f'{key.graph}-*.json')):
            try:
                other = json.loads(path.read_text())
            except (OSError, ValueError):
                log.warning('%s cannot be read; the engine beside it is not used', path)
                continue
            if other.get('shapes') == _plain(key)['shapes']:
                found.append(other)
        return found


def _plain(key: EngineKey) -> dict:
    return json.loads(json.dumps(asdict(key)))


def engine_folder() -> Path:
    """Return where engines and graphs are kept."""
    return cache_dir() / 'engines'


def gpu_name(device: torch.device) -> str:
    """Return name and compute capability of a CUDA device."""
    major, minor = torch.cuda.get_device_capability(device)
    return f'{torch.cuda.get_device_name(device)} sm_{major}{minor}'


def tensorrt_version() -> str:
    """Return the installed version; without one a UserError."""
    return _tensorrt().__version__


def build_engine(onnx_path: Path) -> bytes:
    """
    Build a strongly typed engine of an ONNX graph.

    Raises
    ------
    UserError
        If TensorRT is not installed or refuses the graph; the sentence holds its reason.

    """
    trt = _tensorrt()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        raise UserError(f'TensorRT refuses {onnx_path}: {parser.get_error(0)}')
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UserError(f'TensorRT builds no engine of {onnx_path}; its log says why')
    return bytes(engine)


class Engine:
    """
    A loaded engine: tensors in by name, tensors out by name, on the current CUDA stream.

    Parameters
    ----------
    content : bytes
        Serialised.
    device : torch.device
        Where it was built for.

    """

    def __init__(self, content: bytes, device: torch.device) -> None:
        self._trt, self._device = _tensorrt(), device
        self._runtime = self._trt.Runtime(self._trt.Logger(self._trt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise UserError('the TensorRT engine cannot be loaded; delete it from '
                            f'{engine_folder()} and it is built again')
        self._context = self._engine.create_execution_context()

    def __call__(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Run once; the outputs are new tensors."""
        trt, results, kept = self._trt, {}, []
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                dtype = _torch_dtype(trt, self._engine.get_tensor_dtype(name))
                tensor = inputs[name].to(self._device, dtype).contiguous()
                kept.append(tensor)
            else:
                dtype = _torch_dtype(trt, self._engine.get_tensor_dtype(name))
                shape = tuple(self._engine.get_tensor_shape(name))
                tensor = results[name] = torch.empty(shape, dtype=dtype, device=self._device)
            self._context.set_tensor_address(name, tensor.data_ptr())
        stream = torch.cuda.current_stream(self._device)
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError('the TensorRT engine failed; its log says why')
        for tensor in kept:
            tensor.record_stream(stream)
        return results


def _torch_dtype(trt, dtype: object) -> torch.dtype:
    return {trt.float32: torch.float32, trt.float16: torch.float16,
            trt.bfloat16: torch.bfloat16, trt.int64: torch.int64}[dtype]


def _tensorrt():
    try:
        import tensorrt
    except ImportError as error:
        raise UserError('TensorRT is not installed (pip install tensorrt, or set execution to '
                        'auto)') from error
    return tensorrt

"""
`DKTPipeline`: a clip in, disparity or normals out.

The networks are those of diffusers; what makes them DKT is here: the layout of the input
channels, the stored prompt rows, the reference's schedule and its joint windows. A live preset
goes through `WindowStream`, the very code a camera's stream goes through.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import (
    AutoencoderKLWan,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    WanTransformer3DModel,
)
from diffusers.utils import BaseOutput

from dkt_ros.config import PRESETS
from dkt_ros.errors import UserError
from dkt_ros.model import imaging
from dkt_ros.model.aligned import open_windows
from dkt_ros.model.causal_vae import (
    CausalVAEDecoder,
    CausalVAEEncoder,
    encode_clip,
    spatial_ratio,
    temporal_ratio,
)
from dkt_ros.model.checks import check_choice, check_components, check_sensor_depth
from dkt_ros.model.faithful import (
    FAITHFUL,
    FAITHFUL_SEED,
    Request,
    preset_window,
    run_faithful,
)
from dkt_ros.model.folded import FoldedTransformer
from dkt_ros.model.folder import (
    OPTIONAL_COMPONENTS,
    WEIGHTED_COMPONENTS,
    check_model_folder,
    check_same_keys,
    no_loading_bar,
)
from dkt_ros.model.folding import fold
from dkt_ros.model.prompt import PromptRows
from dkt_ros.model.sampler import FlowSchedule, flow_schedule
from dkt_ros.model.sensor_encoder import SensorEncoder, with_sensor
from dkt_ros.model.tiny_decoder import TinyDecoder, TinyDecoderStream
from dkt_ros.model.wan_layers import use_fast_layers
from dkt_ros.model.windows import DecodedWindow, WindowShape, WindowStream

if TYPE_CHECKING:
    from dkt_ros.model.coders import VaeEngines

SCHEDULE_SHIFT = 5.0


@dataclass
class DKTOutput(BaseOutput):
    """
    What the pipeline gives back.

    Attributes
    ----------
    prediction : (T, H, W) or (T, H, W, 3) float32
        Affine-invariant disparity, larger is nearer, or unit normals in the optical frame.
        A NumPy array, or a tensor for `output_type='pt'`.
    latents : (1, z, T', h, w) torch.Tensor or None
        Clean latents of the prediction; None for the live presets, whose memory is bounded.

    """

    prediction: np.ndarray | torch.Tensor
    latents: torch.Tensor | None = None


class DKTPipeline(DiffusionPipeline):
    """
    Video to disparity or normals.

    Parameters
    ----------
    transformer : WanTransformer3DModel
        Input channels: noisy target, RGB latents, those of the sensor if there is an encoder for
        them, and zeros for whatever is left.
    vae : AutoencoderKLWan
        For RGB and target alike.
    scheduler : FlowMatchEulerDiscreteScheduler
        With the reference's shift.
    prompt_rows : PromptRows
        The tasks and their text embeddings.
    default_num_inference_steps : int
        Denoising steps when none are asked for.
    initial_noise : str
        `gaussian`, or `zeros` for a model trained to start from zeros.
    default_height, default_width : int
        Working size when none is asked for [px].
    cpu_precision : str
        What precision `auto` is on a processor that has both: `bfloat16`, or `int8` for a model
        whose maps were measured in it.
    default_overlap : str
        How live windows overlap where that is `auto`: `recompute`, or `cache` for a model whose
        maps were measured with it.
    sensor_encoder : SensorEncoder, optional
        Of a model that is told what a depth camera saw.

    Attributes
    ----------
    tiny_decoder : TinyDecoder or torch.nn.Module or None
        Decodes instead of the VAE; any module with the methods of `TinyDecoder`.
    normals_model : DKTPipeline or None
        Has the task `normal` instead of this one, see `beside.attach_normals`.
    vae_engines : VaeEngines or None
        What computes the streaming steps of the VAE instead of torch.

    """

    model_cpu_offload_seq = 'transformer->vae'
    _optional_components = list(OPTIONAL_COMPONENTS)

    def __init__(self, transformer: WanTransformer3DModel, vae: AutoencoderKLWan,
                 scheduler: FlowMatchEulerDiscreteScheduler, prompt_rows: PromptRows,
                 default_num_inference_steps: int = 5, initial_noise: str = 'gaussian',
                 default_height: int = 480, default_width: int = 832,
                 cpu_precision: str = 'bfloat16', default_overlap: str = 'recompute',
                 sensor_encoder: SensorEncoder | None = None) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, vae=vae, scheduler=scheduler,
                              prompt_rows=prompt_rows, sensor_encoder=sensor_encoder)
        self.register_to_config(default_num_inference_steps=default_num_inference_steps,
                                initial_noise=initial_noise, default_height=default_height,
                                default_width=default_width, cpu_precision=cpu_precision,
                                default_overlap=default_overlap)
        check_components(transformer, vae, prompt_rows, initial_noise, sensor_encoder)
        self.tiny_decoder: TinyDecoder | torch.nn.Module | None = None
        self.normals_model: DKTPipeline | None = None
        self.vae_engines: VaeEngines | None = None
        use_fast_layers(vae)
        for module in (transformer, vae, prompt_rows, sensor_encoder):
            if module is not None:
                module.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **kwargs) -> DKTPipeline:
        """
        Load a model folder.

        Parameters
        ----------
        folder : str or Path
            A folder on disk, safetensors only.
        **kwargs
            As for diffusers; `torch_dtype` is float32 unless given.

        Raises
        ------
        UserError
            If the folder or a file in it is missing, broken, a pickle or not a DKT model.

        """
        folder = check_model_folder(folder, cls.__name__)
        dtype = kwargs.pop('dtype', kwargs.pop('torch_dtype', torch.float32))
        kwargs = {**kwargs, 'use_safetensors': True, 'local_files_only': True}
        try:
            with no_loading_bar():
                pipeline = super().from_pretrained(str(folder), dtype=dtype, **kwargs)
        except (ValueError, RuntimeError, OSError, KeyError, TypeError) as error:
            reason = ' '.join(str(error).split())[:300]
            raise UserError(f'model folder {folder} cannot be loaded ({reason}); copy it again, '
                            'or train or prepare it anew') from error
        for name in (*WEIGHTED_COMPONENTS, *OPTIONAL_COMPONENTS):
            if getattr(pipeline, name) is not None:
                check_same_keys(folder / name, set(getattr(pipeline, name).state_dict()))
        return pipeline

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks this model was trained for, and of what one beside it was."""
        own = self.prompt_rows.tasks
        return own if self.normals_model is None or 'normal' in own else (*own, 'normal')

    def model_of(self, task: str) -> DKTPipeline:
        """Return who computes a task: this model, or one beside it."""
        if task == 'normal' and self.normals_model is not None:
            return self.normals_model
        return self

    def open_encoder(self) -> CausalVAEEncoder:
        """Return the encoder of a new stream."""
        engines = self.vae_engines
        return CausalVAEEncoder(self.vae) if engines is None else engines.open_encoder()

    def open_decoder(self, tasks: Sequence[str] = ()) -> CausalVAEDecoder | TinyDecoderStream:
        """Return the decoder of a new stream; `tasks`, if given, as for `CausalVAEDecoder`."""
        if self.tiny_decoder is not None:
            return TinyDecoderStream(self.tiny_decoder)
        engines = self.vae_engines
        return CausalVAEDecoder(self.vae, tasks) if engines is None else engines.open_decoder()

    @property
    def size_multiple(self) -> tuple[int, int]:
        """Working height and width must be multiples of these [px]."""
        ratio = spatial_ratio(self.vae)
        return ratio * self.transformer.config.patch_size[1], \
            ratio * self.transformer.config.patch_size[2]

    def check_size(self, height: int, width: int) -> None:
        """Raise UserError unless the networks can work at this size [px]."""
        rows, columns = self.size_multiple
        if height < 1 or width < 1 or height % rows or width % columns:
            raise UserError(f'working size is {width}x{height}; the width must be a multiple of '
                            f'{columns} and the height of {rows}')

    def working_size(self, height: int | None, width: int | None,
                     is_portrait: bool = False) -> tuple[int, int]:
        """Return (height, width): what is given, else the model's own, turned for portrait."""
        default = (self.config.default_height, self.config.default_width)
        if is_portrait and not (height or width) and default[0] < default[1]:
            default = default[::-1]
        size = (height or default[0], width or default[1])
        self.check_size(*size)
        return size

    def schedule(self, num_inference_steps: int | None = None,
                 round_timesteps: bool = False) -> FlowSchedule:
        """Return the noise levels; without a count those of the model's own."""
        steps = num_inference_steps or self.config.default_num_inference_steps
        return flow_schedule(self.scheduler, steps, round_timesteps)

    def overlap_of(self, name: str) -> str:
        """Return how live windows overlap: what is given, or for `auto` what the model says."""
        return self.config.default_overlap if name == 'auto' else name

    def folded(self) -> FoldedTransformer:
        """Return the network as it runs: the transformer folded now, unless it is already."""
        network = self.transformer
        if isinstance(network, FoldedTransformer):
            return network
        return fold(network, self.prompt_rows, self.sensor_channels)

    @property
    def sensor_channels(self) -> int:
        """Channels beside the RGB latents that tell what a depth camera saw; 0 without."""
        return 0 if self.sensor_encoder is None else self.sensor_encoder.config.out_channels

    def condition(self, rgb: torch.Tensor, sensor: torch.Tensor | None = None) -> torch.Tensor:
        """Return what the transformer is told, see `sensor_encoder.with_sensor`."""
        return with_sensor(rgb, self.sensor_encoder, sensor)

    def encode_rgb(self, frames: np.ndarray, height: int, width: int) -> torch.Tensor:
        """Encode (T, H, W, 3) uint8, resized and padded to ratio * N + 1, to RGB latents."""
        frames = imaging.pad_clip(imaging.resize_rgb(frames, height, width),
                                  temporal_ratio(self.vae))
        return encode_clip(self.vae, imaging.to_video(frames).to(self.vae.device))

    @torch.no_grad()
    def __call__(self, frames: np.ndarray, task: str = 'depth', *,
                 num_inference_steps: int | None = None, height: int | None = None,
                 width: int | None = None, preset: str = 'balanced',
                 window_latents: int | None = None, overlap_latents: int | None = None,
                 generator: torch.Generator | None = None, noise: torch.Tensor | None = None,
                 output_size: str = 'input', output_type: str = 'np',
                 overlap: str = 'auto', sensor_depth: np.ndarray | None = None) -> DKTOutput:
        """
        Predict disparity or normals of a clip.

        Parameters
        ----------
        frames : (T, H, W, 3) uint8
            R first; any T from 1 up, any size.
        task : str
            One of `tasks`.
        num_inference_steps : int, optional
            Denoising steps; the model's own when not given.
        height, width : int, optional
            Working size [px], multiples of `size_multiple`; the model's own when not given.
        preset : str
            A live preset (bounded memory), or `faithful`: the reference's joint windows, its
            rotation of portrait clips and its rounded timesteps.
        window_latents, overlap_latents : int, optional
            Another window than the preset's.
        generator : torch.Generator, optional
            Source of the noise.
        noise : (1, z, T', h, w) torch.Tensor, optional
            For `faithful`: the start of the clip.
        output_size : str
            `input` for maps of the frames' size, `working` for the size worked at.
        output_type : str
            `np` or `pt`.
        overlap : str
            How a live window knows the one before, see `dkt_ros.model.overlap`.
        sensor_depth : (T, H, W) float32, optional
            What a depth camera saw at the frames' pixels [m], NaN where nothing, for a model with
            an encoder for it.

        Returns
        -------
        DKTOutput
            The prediction has T frames.

        """
        imaging.check_frames(frames)
        check_choice('preset', preset, (*PRESETS, FAITHFUL))
        check_choice('task', task, self.tasks)
        check_choice('output_size', output_size, ('input', 'working'))
        check_choice('output_type', output_type, ('np', 'pt'))
        check_sensor_depth(sensor_depth, frames, self.sensor_encoder)
        model = self.model_of(task)
        shape = preset_window(preset)
        shape = WindowShape(window_latents or shape.window_latents,
                            shape.overlap_latents if overlap_latents is None else overlap_latents)
        request = Request(frames, task, shape, num_inference_steps, height, width, generator,
                          noise, output_size == 'input', overlap, sensor_depth)
        maps, latents = (run_faithful(model, request) if preset == FAITHFUL else
                         (model._live(request), None))
        prediction = torch.from_numpy(maps) if output_type == 'pt' else maps
        return DKTOutput(prediction=prediction, latents=latents)

    def _live(self, request: Request) -> np.ndarray:
        if request.noise is not None:
            raise ValueError(f'noise is {tuple(request.noise.shape)}; only preset {FAITHFUL!r} '
                             'takes it')
        size, generator = request.frames.shape[1:3], request.generator
        working = self.working_size(request.height, request.width, is_portrait=size[0] > size[1])
        seed = FAITHFUL_SEED
        if generator is not None:
            seed = int(torch.randint(2 ** 31, (), generator=generator, device=generator.device))
        stream = open_windows(self, (request.task,), request.shape, *working, request.steps, seed,
                              overlap=request.overlap)
        results = []
        with self.progress_bar(total=len(request.frames)) as progress:
            for window in self._windows(stream, request):
                maps = window.maps[request.task]
                results.append(imaging.resize_maps(maps, *size) if request.keep_size else maps)
                progress.update(window.num_frames)
        return np.concatenate(results)

    @staticmethod
    def _windows(stream: WindowStream, request: Request) -> Iterator[DecodedWindow]:
        depths = request.sensor_depth
        for index, frame in enumerate(request.frames):
            window = stream.push(frame, None if depths is None else depths[index])
            if window is not None:
                yield window
        window = stream.flush()
        if window is not None:
            yield window

"""
The published recipe: a LoRA (or every weight) of a pretrained DiT by flow matching on latents.

One process or many: every draw depends on the seed, the step and the place in the batch alone, so
that any number of processes learns from the same clips, noise and levels, and a resumed run goes
on as if it had never stopped.
"""
from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from rich.console import Console

from dkt_ros.data.mixture import ClipRef, Mixture, SourceConfig, open_mixture
from dkt_ros.errors import UserError
from dkt_ros.lora_config import LoraTrainConfig
from dkt_ros.model.causal_vae import temporal_ratio
from dkt_ros.model.lora import add_lora, save_lora
from dkt_ros.model.pipeline import DKTPipeline, save_model_folder
from dkt_ros.provenance import model_hash
from dkt_ros.resources import cache_dir
from dkt_ros.tools.train import runs
from dkt_ros.tools.train.flow import Denoiser, TrainingSchedule, flow_matching_loss
from dkt_ros.tools.train.latents import LatentCache
from dkt_ros.tools.train.trackers import Trackers
from dkt_ros.tools.train.validation import validate

logger, console = logging.getLogger(__name__), Console()

ATTEMPTS = 20
"""How often a clip with broken frames is drawn again."""


class LoraTrainer:
    """
    A run in a folder: config.yaml, checkpoint.pt, log.jsonl, samples/, lora.safetensors.

    Parameters
    ----------
    config : LoraTrainConfig
        With a base and data.
    pipeline : DKTPipeline
        The base; its transformer is trained in place.
    mixture : Mixture
        What is learnt from.
    held_out : Mixture, optional
        What is looked at during the run.
    vae_hash : str
        Names the VAE's weights in the latents' cache.

    """

    def __init__(self, config: LoraTrainConfig, pipeline: DKTPipeline, mixture: Mixture,
                 held_out: Mixture | None = None, vae_hash: str = '') -> None:
        self.config, self.pipeline = config, pipeline
        self.mixture, self.held_out = mixture, held_out
        self.run = runs.run_folder(config)
        # One process may make several runs, such as the cells of an ablation, each with its own
        # precision; what accelerate knows of the processes themselves stays.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision,
                                       cpu=not torch.cuda.is_available())
        self._check()
        self.schedule = TrainingSchedule(config.schedule_shift, config.num_train_timesteps)
        pipeline.vae.to(self.accelerator.device)
        self.cache = LatentCache(latents_folder(config), pipeline.vae, vae_hash, config.height,
                                 config.width, config.task, config.normalization)
        self.parameters = self._free_parameters()
        optimizer = torch.optim.AdamW(self.parameters, lr=config.learning_rate,
                                      weight_decay=config.weight_decay)
        rows = pipeline.prompt_rows([config.task])
        denoiser = Denoiser(pipeline.transformer, rows).to(self.accelerator.device)
        self.denoiser, self.optimizer = self.accelerator.prepare(denoiser, optimizer)
        self.average = EMAModel(self.parameters, decay=config.ema_decay) if config.ema_decay \
            else None
        self.trackers = Trackers(config, self.run, self.accelerator.is_main_process)
        self.step = 0

    def _check(self) -> None:
        config, count = self.config, self.accelerator.num_processes
        if self.accelerator.distributed_type == DistributedType.FSDP:
            raise UserError('accelerate is set to FSDP, which this release cannot checkpoint; use '
                            'plain data parallelism (`accelerate launch --multi_gpu`)')
        if config.batch_size % (count * config.accumulate):
            raise UserError(f'batch_size is {config.batch_size}; it must be a multiple of the '
                            f'{count} processes times accumulate {config.accumulate}')
        self.pipeline.check_size(config.height, config.width)
        if config.task not in self.pipeline.tasks:
            raise UserError(f'task is {config.task!r}; the base {config.base} has prompt rows for '
                            f'{", ".join(self.pipeline.tasks)}')

    def _free_parameters(self) -> list[torch.nn.Parameter]:
        transformer = self.pipeline.transformer
        if self.config.method == 'full':
            transformer.requires_grad_(True)
        else:
            add_lora(transformer, self.config.rank, self.config.seed)
            if self.config.mixed_precision == 'bf16':
                halve_frozen(transformer)
        if self.config.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        return [p for p in transformer.parameters() if p.requires_grad]

    def fit(self) -> Path:
        """Train to the last step; return the LoRA's file, or the model folder of `full`."""
        if self.accelerator.is_main_process:
            self.run.mkdir(parents=True, exist_ok=True)
            runs.write_config(self.run, self.config)
        self.accelerator.wait_for_everyone()
        started, first = time.monotonic(), self.step
        while self.step < self.config.steps:
            figures = self.train_step()
            self.step += 1
            if self._is_time(self.config.log_every):
                pace = (time.monotonic() - started) / (self.step - first)
                self.log({**figures, 'seconds_a_step': pace})
            if self._is_time(self.config.validate_every):
                self.look()
            if self._is_time(self.config.checkpoint_every):
                self.save()
        self.trackers.close()
        return self.export()

    def _is_time(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def train_step(self) -> dict[str, float]:
        """Take one optimiser step on this process's share of the batch."""
        parts = self.batch()
        for group in self.optimizer.param_groups:
            group['lr'] = self.learning_rate()
        totals = torch.zeros(2, device=self.accelerator.device)
        for index, part in enumerate(parts):
            last = index + 1 == len(parts)
            context = nullcontext() if last else self.accelerator.no_sync(self.denoiser)
            with context:
                weighted, error = flow_matching_loss(self.denoiser, *part, self.schedule)
                self.accelerator.backward(weighted.mean() / len(parts))
            totals += torch.stack([weighted.mean(), error.mean()]).detach() / len(parts)
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.step(self.parameters)
        loss, mse = self.accelerator.reduce(totals, reduction='mean').tolist()
        return {'loss': loss, 'mse': mse, 'norm': float(norm),
                'num_latents': parts[0][0].shape[2], 'learning_rate': self.learning_rate()}

    def learning_rate(self) -> float:
        """Return the rate of the step to come: linear warm-up, then constant."""
        warm = (self.step + 1) / max(1, self.config.warmup_steps)
        return self.config.learning_rate * min(1.0, warm)

    def batch(self) -> list[tuple[torch.Tensor, ...]]:
        """Return this process's clips of the step, cut into `accumulate` parts."""
        rng = np.random.default_rng((self.config.seed, self.step))
        num_latents = int(rng.integers(self.config.max_clip_latents)) + 1
        share = self.config.batch_size // self.accelerator.num_processes
        first = self.accelerator.process_index * share
        items = [self.item(place, num_latents) for place in range(first, first + share)]
        size = share // self.config.accumulate
        return [tuple(torch.stack(column).to(self.accelerator.device)
                      if column[0].is_floating_point() else torch.stack(column)
                      for column in zip(*items[i:i + size], strict=True))
                for i in range(0, share, size)]

    def item(self, place: int, num_latents: int) -> tuple[torch.Tensor, ...]:
        """Return colour, target and noise (z, T', h, w) and the level of one clip of the batch."""
        seed = (self.config.seed, self.step, place)
        rgb, target = self._latents(np.random.default_rng((*seed, 1)), num_latents)
        generator = torch.Generator().manual_seed(
            int(np.random.default_rng((*seed, 2)).integers(2 ** 62)))
        noise = torch.randn(target.shape, generator=generator)
        level = torch.randint(len(self.schedule), (), generator=generator)
        return rgb, target, noise, level

    def _latents(self, rng: np.random.Generator, num_latents: int) -> tuple[torch.Tensor, ...]:
        num_frames = temporal_ratio(self.pipeline.vae) * (num_latents - 1) + 1
        for _ in range(ATTEMPTS):
            clip: ClipRef = self.mixture.draw(num_frames, rng)
            try:
                return self.cache.get(clip)
            except (ValueError, OSError) as error:
                logger.warning('%s; another clip is drawn', error)
        raise UserError(f'{ATTEMPTS} clips in a row have broken frames; run `dkt data check` or '
                        '`dkt scenes check` on the data')

    def log(self, figures: dict[str, float]) -> None:
        """Append to log.jsonl, tell the trackers and the screen."""
        if not self.accelerator.is_main_process:
            return
        runs.append_record(self.run / 'log.jsonl', {'step': self.step, **figures})
        self.trackers.figures(figures, self.step)
        console.print(f'step {self.step}/{self.config.steps}  loss {figures["loss"]:.4f}  '
                      f'mse {figures["mse"]:.4f}  {figures["seconds_a_step"]:.2f} s/step',
                      highlight=False)

    def look(self) -> None:
        """Measure and draw held-out clips with the averaged weights."""
        if self.held_out is not None and self.accelerator.is_main_process:
            with self.accelerator.autocast():
                self._with_average(lambda: validate(
                    self.pipeline, self.held_out, self.config, self.run, self.step,
                    self.trackers))
        self.accelerator.wait_for_everyone()

    def _with_average(self, action) -> None:
        if self.average is None:
            action()
            return
        self.average.store(self.parameters)
        self.average.copy_to(self.parameters)
        try:
            action()
        finally:
            self.average.restore(self.parameters)

    def save(self) -> None:
        """Write checkpoint.pt, whole or not at all."""
        if self.accelerator.is_main_process:
            state = {'step': self.step, 'parameters': [p.detach().cpu() for p in self.parameters],
                     'optimizer': self.optimizer.state_dict(),
                     'average': None if self.average is None else self.average.state_dict()}
            runs.save_checkpoint(self.run, state)
        self.accelerator.wait_for_everyone()

    @torch.no_grad()
    def resume(self) -> None:
        """Go on from checkpoint.pt."""
        state = runs.load_checkpoint(self.run, self.accelerator.device)
        for parameter, saved in zip(self.parameters, state['parameters'], strict=True):
            parameter.copy_(saved)
        self.optimizer.load_state_dict(state['optimizer'])
        if self.average is not None and state['average'] is not None:
            self.average.load_state_dict(state['average'])
            self.average.to(self.accelerator.device)
        self.step = state['step']

    def export(self) -> Path:
        """Write the averaged weights: lora.safetensors in the released layout, or a model."""
        lora = self.config.method == 'lora'
        path = self.run / ('lora.safetensors' if lora else 'model')
        if self.accelerator.is_main_process:
            self._with_average(lambda: save_lora(path, self.pipeline.transformer) if lora else
                               save_whole(path, self.pipeline))
        self.accelerator.wait_for_everyone()
        return path


def halve_frozen(transformer: torch.nn.Module) -> None:
    """Keep the matrices that are not trained in bfloat16: autocast would make them so anyway."""
    for module in transformer.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad:
            module.to(torch.bfloat16)


def save_whole(folder: Path, pipeline: DKTPipeline) -> None:
    """Write the model folder of a pipeline whose transformer was trained."""
    rows, config = pipeline.prompt_rows, pipeline.config
    save_model_folder(folder, pipeline.transformer, pipeline.vae, dict(rows.rows),
                      rows.config.num_text_tokens, default_height=config.default_height,
                      default_width=config.default_width, initial_noise=config.initial_noise,
                      default_num_inference_steps=config.default_num_inference_steps)


def latents_folder(config: LoraTrainConfig) -> Path:
    """Return the folder of the latents, by default below the cache."""
    return Path(config.cache).expanduser() if config.cache else cache_dir() / 'latents'


def run_lora(config: LoraTrainConfig, resume: bool = False) -> Path:
    """
    Train as `config` says; return the LoRA's file or the model folder.

    Raises
    ------
    UserError
        If the run exists and `resume` is not set, or base or data cannot serve.

    """
    if not config.base:
        raise UserError('base is empty; give the model folder to train on (`dkt prepare` makes '
                        'one of published files)')
    if not resume:
        runs.check_free(runs.run_folder(config))
    mixture = open_mixture(_sources(config.data, 'data'))
    held_out = open_mixture(_sources(config.validation, 'validation')) if config.validation \
        else None
    pipeline = DKTPipeline.from_pretrained(config.base)
    pipeline.set_progress_bar_config(disable=True)
    trainer = LoraTrainer(config, pipeline, mixture, held_out,
                          model_hash(Path(config.base) / 'vae'))
    if resume:
        trainer.resume()
    if trainer.accelerator.is_main_process:
        console.print(f'run: {trainer.run}  processes: {trainer.accelerator.num_processes}  '
                      f'trained: {sum(p.numel() for p in trainer.parameters):,} values')
    return trainer.fit()


def _sources(values: list, where: str) -> list[SourceConfig]:
    return [SourceConfig.from_dict(value, f'{where}[{i}]') for i, value in enumerate(values)]

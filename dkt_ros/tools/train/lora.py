"""
The published recipe: a LoRA (or every weight) of a pretrained DiT by flow matching on latents.

One process or many: every draw depends on the seed, the step and the place in the batch alone, so
that any number of processes learns from the same clips, noise and levels, and a resumed run goes
on as if it had never stopped. With `fsdp` the processes hold a share of the weights each, see
`sharding`; they learn the same.
"""
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import AutocastKwargs
from diffusers import WanTransformer3DModel
from diffusers.training_utils import EMAModel
from rich.console import Console

from dkt_ros.data.mixture import ClipRef, Mixture, SourceConfig, open_mixture
from dkt_ros.errors import UserError
from dkt_ros.lora_config import LoraTrainConfig
from dkt_ros.model.causal_vae import temporal_ratio
from dkt_ros.model.lora import add_lora, lora_parameters, save_lora
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.saving import save_model_folder
from dkt_ros.provenance import model_hash
from dkt_ros.resources import cache_dir
from dkt_ros.tools.train import runs
from dkt_ros.tools.train.flow import Denoiser, TrainingSchedule, flow_matching_loss
from dkt_ros.tools.train.latents import LatentCache
from dkt_ros.tools.train.sharding import (
    as_launched,
    joined,
    local_parts,
    make_accelerator,
    open_base,
    shard,
    share,
    whole,
    whole_transformer,
)
from dkt_ros.tools.train.trackers import Trackers
from dkt_ros.tools.train.validation import keep_validation, validate

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
        self.accelerator = make_accelerator(config.mixed_precision)
        self.is_sharded = config.fsdp and self.accelerator.num_processes > 1
        self._check()
        self.schedule = TrainingSchedule(config.schedule_shift, config.num_train_timesteps)
        pipeline.vae.to(self.accelerator.device)
        self.cache = LatentCache(latents_folder(config), pipeline.vae, vae_hash, config.height,
                                 config.width, config.task, config.normalization)
        self._free_parameters()
        self.network = Denoiser(pipeline.transformer, pipeline.prompt_rows([config.task]))
        self._prepare()
        self.average = EMAModel(local_parts(self.parameters), decay=config.ema_decay) \
            if config.ema_decay else None
        self.trackers = Trackers(config, self.run, self.accelerator.is_main_process)
        self.step = 0

    def _check(self) -> None:
        config, count = self.config, self.accelerator.num_processes
        if config.batch_size % (count * config.accumulate):
            raise UserError(f'batch_size is {config.batch_size}; it must be a multiple of the '
                            f'{count} processes times accumulate {config.accumulate}')
        self.pipeline.check_size(config.height, config.width)
        if config.task not in self.pipeline.tasks:
            raise UserError(f'task is {config.task!r}; the base {config.base} has prompt rows for '
                            f'{", ".join(self.pipeline.tasks)}')

    def _free_parameters(self) -> None:
        transformer = self.pipeline.transformer
        if self.config.method == 'full':
            transformer.requires_grad_(True)
        else:
            add_lora(transformer, self.config.rank, self.config.seed)
            if self.config.mixed_precision == 'bf16':
                halve_frozen(transformer)
        if self.config.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()

    def _prepare(self) -> None:
        """Put the network where it learns, whole or this process's share of it."""
        config, device = self.config, self.accelerator.device
        if self.is_sharded:
            shard(self.network, device)
        else:
            self.network.to(device)
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(self.parameters, lr=config.learning_rate,
                                      weight_decay=config.weight_decay)
        self.optimizer = self.accelerator.prepare(optimizer)
        self.denoiser = self.network if self.is_sharded else self.accelerator.prepare(self.network)

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
                with self._autocast():
                    weighted, error = flow_matching_loss(self.denoiser, *part, self.schedule)
                self.accelerator.backward(weighted.mean() / len(parts))
            totals += torch.stack([weighted.mean(), error.mean()]).detach() / len(parts)
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.step(local_parts(self.parameters))
        loss, mse = self.accelerator.reduce(totals, reduction='mean').tolist()
        return {'loss': loss, 'mse': mse, 'norm': float(whole(norm)),
                'num_latents': parts[0][0].shape[2], 'learning_rate': self.learning_rate()}

    def _autocast(self):
        # A share that was put together is forgotten after its block; its rounded copy must be too.
        return self.accelerator.autocast(AutocastKwargs(cache_enabled=not self.is_sharded))

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
        if self.config.target == 'rgb':
            rgb, target = torch.zeros_like(rgb), rgb
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
        # Where the weights are shared out, nobody can compute alone.
        if self.held_out is not None and (self.is_sharded or self.accelerator.is_main_process):
            with self._autocast():
                figures, image = self._with_average(lambda: validate(
                    self.pipeline, self.network, self.held_out, self.config))
            if self.accelerator.is_main_process:
                keep_validation(self.run, self.step, figures, image, self.trackers)
        self.accelerator.wait_for_everyone()

    def _with_average(self, action: Callable[[], Any]) -> Any:
        if self.average is None:
            return action()
        parts = local_parts(self.parameters)
        self.average.store(parts)
        self.average.copy_to(parts)
        try:
            return action()
        finally:
            self.average.restore(parts)

    def save(self) -> None:
        """Write checkpoint.pt, whole or not at all."""
        average = None if self.average is None else self.average.state_dict()
        if average is not None:
            average['shadow_params'] = joined(average['shadow_params'], self.parameters)
        state = whole({'step': self.step, 'parameters': self.parameters, 'average': average,
                       'optimizer': self.optimizer.state_dict()},
                      keep=self.accelerator.is_main_process)
        if self.accelerator.is_main_process:
            runs.save_checkpoint(self.run, state)
        self.accelerator.wait_for_everyone()

    @torch.no_grad()
    def resume(self) -> None:
        """Go on from checkpoint.pt."""
        state = runs.load_checkpoint(self.run, 'cpu')
        for parameter, saved in zip(self.parameters, state['parameters'], strict=True):
            parameter.copy_(share(saved, parameter))
        moments = state['optimizer']['state']
        for index, values in moments.items():
            moments[index] = {name: share(value, self.parameters[index])
                              for name, value in values.items()}
        self.optimizer.load_state_dict(state['optimizer'])
        average = state['average']
        if self.average is not None and average is not None:
            average['shadow_params'] = [
                part.detach() for part in local_parts(
                    map(share, average['shadow_params'], self.parameters))]
            self.average.load_state_dict(average)
            self.average.to(self.accelerator.device)
        self.step = state['step']

    def export(self) -> Path:
        """Write the averaged weights: lora.safetensors in the released layout, or a model."""
        path = self.run / ('lora.safetensors' if self.config.method == 'lora' else 'model')
        self._with_average(lambda: self._write(path))
        self.accelerator.wait_for_everyone()
        return path

    def _write(self, path: Path) -> None:
        transformer, keep = self.pipeline.transformer, self.accelerator.is_main_process
        if self.config.method == 'full':
            trained = whole_transformer(transformer, keep)
            if keep:
                save_whole(path, self.pipeline, self.config, trained)
            return
        matrices = whole(lora_parameters(transformer), keep)
        if keep:
            save_lora(path, matrices)


def halve_frozen(transformer: torch.nn.Module) -> None:
    """Keep the matrices that are not trained in bfloat16: autocast would make them so anyway."""
    for module in transformer.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad:
            module.to(torch.bfloat16)


def save_whole(folder: Path, pipeline: DKTPipeline, config: LoraTrainConfig,
               transformer: WanTransformer3DModel | None = None) -> None:
    """
    Write the model folder of a pipeline with its transformer, or another of its form.

    It runs as flow matching has taught it, whatever its base did: from Gaussian noise, at the
    size of the training.
    """
    rows = pipeline.prompt_rows
    save_model_folder(folder, transformer or pipeline.transformer, pipeline.vae, dict(rows.rows),
                      rows.config.num_text_tokens, default_height=config.height,
                      default_width=config.width, initial_noise='gaussian',
                      default_num_inference_steps=config.num_inference_steps)


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
    config = as_launched(config)
    if not config.base:
        raise UserError('base is empty; give the model folder to train on (`dkt prepare` makes '
                        'one of published files)')
    if not resume:
        runs.check_free(runs.run_folder(config))
    mixture = open_mixture(_sources(config.data, 'data'))
    held_out = open_mixture(_sources(config.validation, 'validation')) if config.validation \
        else None
    trainer = LoraTrainer(config, open_base(config), mixture, held_out,
                          model_hash(Path(config.base) / 'vae'))
    if resume:
        trainer.resume()
    if trainer.accelerator.is_main_process:
        console.print(f'run: {trainer.run}  processes: {trainer.accelerator.num_processes}  '
                      f'{"each holds a share of the weights  " if trainer.is_sharded else ""}'
                      f'trained: {sum(p.numel() for p in trainer.parameters):,} values')
    return trainer.fit()


def _sources(values: list, where: str) -> list[SourceConfig]:
    return [SourceConfig.from_dict(value, f'{where}[{i}]') for i, value in enumerate(values)]

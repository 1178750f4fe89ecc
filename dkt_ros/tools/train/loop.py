"""The training run: stages, checkpoints, validation pictures, the finished model folder."""
from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console

from dkt_ros.colorize import disparity_to_rgb, normals_to_rgb
from dkt_ros.errors import UserError
from dkt_ros.material import Material
from dkt_ros.tools.train import runs
from dkt_ros.tools.train.data import Batch, Clip, batches_ahead, draw_batch, load_clips
from dkt_ros.tools.train.losses import relative_error
from dkt_ros.tools.train.networks import (
    TASKS,
    build_sensor_encoder,
    build_transformer,
    build_vae,
    draw_prompt_rows,
)
from dkt_ros.tools.train.steps import (
    LOSSES,
    Networks,
    measure_latents,
    predict,
    set_trainable,
)
from dkt_ros.train_config import StageConfig, TrainConfig

console = Console()


class Trainer:
    """
    A run in a folder: config.yaml, checkpoint.pt, log.jsonl, samples/, model/.

    Parameters
    ----------
    config : TrainConfig
        With at least one stage.
    clips : sequence of Clip
        All scenes in order of name; the last `held_out` validate.

    """

    def __init__(self, config: TrainConfig, clips: Sequence[Clip]) -> None:
        self.config = config
        self.stages = [StageConfig.from_dict(s, f'stages[{i}]')
                       for i, s in enumerate(config.stages)]
        if not self.stages:
            raise UserError('the configuration names no stage; give `stages` a list, see '
                            'config/train.yaml')
        if not config.sensor_prompt and any(stage.kind == 'sensor' for stage in self.stages):
            raise UserError('a stage is of kind sensor, but the model gets no sensor encoder; set '
                            'sensor_prompt to true or leave the stage out')
        if len(clips) <= config.held_out:
            raise UserError(f'{len(clips)} scenes, {config.held_out} of them held out: nothing is '
                            'left to train on; render more or lower held_out')
        self.train_clips = clips[:-config.held_out]
        self.held_out = clips[-config.held_out:]
        self.run = runs.run_folder(config)
        self.run.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        vae = build_vae(config.vae)
        self.nets = Networks(
            vae, build_transformer(config.transformer, config.vae.z_dim, config.sensor_prompt),
            draw_prompt_rows(config.transformer.text_dim, config.seed),
            build_sensor_encoder(vae) if config.sensor_prompt else None)
        if config.initial_model:
            load_model(self.nets, config.initial_model)
        self.average = copy.deepcopy(self.nets)
        self.stage, self.step = 0, 0
        self.optimizers: list[torch.optim.Optimizer] = []

    def fit(self) -> Path:
        """Run what is left of all stages; return the model folder."""
        runs.write_config(self.run, self.config)
        while self.stage < len(self.stages):
            stage = self.stages[self.stage]
            self.run_stage(stage)
            if stage.kind == 'vae':
                self.set_latent_statistics(stage)
            self.stage, self.step, self.optimizers = self.stage + 1, 0, []
            self.save()
            self.export()
        return self.run / 'model'

    def set_latent_statistics(self, stage: StageConfig) -> None:
        """Write the latents' statistics into the VAE, so that flow matching sees unit variance."""
        batch = draw_batch(self.train_clips, 64, 1, stage.height, stage.width,
                           np.random.default_rng(self.config.seed))
        mean, std = measure_latents(self.average, batch)
        for nets in (self.nets, self.average):
            nets.vae.register_to_config(latents_mean=mean, latents_std=std)

    def start(self, stage: StageConfig) -> list[torch.nn.Parameter]:
        """Free what the stage trains and return it; make the optimisers unless it is resumed."""
        parameters = set_trainable(self.nets, stage.kind)
        if not self.optimizers:
            self.optimizers = make_optimizers(self.nets, stage, parameters)
        # Clips go through the VAE chunk by chunk with caches: too many shapes to compile.
        compile_networks(self.nets, self.config.compile and stage.num_frames == 1)
        return parameters

    def run_stage(self, stage: StageConfig) -> None:
        """Run one stage from `self.step` on."""
        parameters = self.start(stage)
        batches = self.batches(stage)
        started, first = time.monotonic(), self.step
        while self.step < stage.steps:
            losses = self.train_step(stage, next(batches), parameters)
            self.step += 1
            if self.step % 50 == 0:
                pace = (time.monotonic() - started) / (self.step - first)
                self.log(stage, losses, pace)
            if self.step % self.config.validate_every == 0 or self.step == stage.steps:
                self.validate(stage)
            if self.step % self.config.checkpoint_every == 0:
                self.save()
        batches.close()

    def batches(self, stage: StageConfig) -> Iterator[list[Batch]]:
        """Yield the batches of each step from `self.step` on; they depend on the step alone."""
        steps = itertools.count(self.step)
        sizes = [(stage.batch_size, stage.num_frames)]
        if stage.stills:
            sizes.append((stage.stills, 1))

        def draw() -> list[Batch]:
            rng = np.random.default_rng((self.config.seed, self.stage, next(steps)))
            return [draw_batch(self.train_clips, *size, stage.height, stage.width, rng,
                               drift_share=stage.drift_share, crop=stage.crop,
                               sensor_share=self.sensor_share(stage)) for size in sizes]

        return batches_ahead(draw)

    def sensor_share(self, stage: StageConfig) -> float:
        """Return the share of clips whose sensor the network is told."""
        if self.nets.sensor_encoder is None:
            return 0.0
        return 1.0 if stage.kind == 'sensor' else stage.sensor_share

    def train_step(self, stage: StageConfig, batches: list[Batch],
                   parameters: list[torch.nn.Parameter]) -> dict[str, float]:
        """Take one optimiser step on the mean loss of the batches; update the averaged weights."""
        # Noise follows the step, so that a resumed run goes on as if it had never stopped.
        generator = torch.Generator().manual_seed(
            (self.config.seed * 1009 + self.stage) * 1_000_003 + self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group['lr'] = learning_rate(stage, self.step)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        figures: dict[str, float] = {}
        for batch, prefix in zip(batches, ('', 'still_')):
            with torch.autocast('cpu', dtype=torch.bfloat16, enabled=self.config.bf16):
                losses = LOSSES[stage.kind](self.nets, batch, self.config, stage, generator)
            (losses['loss'] / len(batches)).backward()
            figures |= {prefix + name: float(value.detach()) for name, value in losses.items()}
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if torch.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
        self._update_average()
        return {**figures, 'norm': float(norm)}

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        for name, module in self.nets.modules.items():
            pairs = zip(self.average.modules[name].parameters(), module.parameters())
            for average, current in pairs:
                average.lerp_(current.detach(), 1 - decay)

    def log(self, stage: StageConfig, losses: dict[str, float], pace: float) -> None:
        """Append to log.jsonl and say where the run stands."""
        record = {'stage': self.stage, 'kind': stage.kind, 'step': self.step, **losses,
                  'seconds_a_step': pace}
        runs.append_record(self.run / 'log.jsonl', record)
        values = '  '.join(f'{name} {value:.4f}' for name, value in losses.items())
        console.print(f'stage {self.stage} {stage.kind} {self.step}/{stage.steps}  {values}  '
                      f'{pace:.2f} s/step', highlight=False)

    @torch.no_grad()
    def validate(self, stage: StageConfig) -> None:
        """Measure one-step depth on held-out stills with the averaged weights; draw some."""
        if stage.kind in ('vae', 'sensor'):
            return
        rng = np.random.default_rng(12345)
        count = max(6, self.config.validation_clips // stage.num_frames)
        videos = any(clip.is_video for clip in self.held_out)
        batch = draw_batch(self.held_out, count, stage.num_frames, stage.height, stage.width, rng,
                           augment=False, drift_share=0.0 if videos else 1.0,
                           sensor_share=float(self.nets.sensor_encoder is not None))
        images = torch.cat([predict(self.average, part, ['depth'] * len(part.rgb))
                            for part in batch.split(8)])
        error = relative_error(images.mean(1), batch.inverse_depth, batch.material)
        glass = batch.material == Material.TRANSPARENT
        depth = 1 / batch.inverse_depth.clamp(min=0.05)
        # |aligned / q - 1| is the relative error of inverse depth: about that of depth.
        record = {'stage': self.stage, 'step': self.step,
                  'glass_rel': float(error[glass].mean()),
                  'glass_mae_m': float((error * depth)[glass].mean()),
                  'glass_delta_105': float((error[glass] < 0.05).float().mean()),
                  'background_rel': float(error[batch.material == 0].mean())}
        runs.append_record(self.run / 'validation.jsonl', record)
        console.print(f'  held out: {record}', highlight=False)
        normals = predict(self.average, next(batch.split(6)), ['normal'] * 6)
        self.draw(batch, images, normals)

    def draw(self, batch, images: torch.Tensor, normals: torch.Tensor) -> None:
        """Write samples/STAGE_STEP.png: colour, disparity and its truth, normals and theirs."""
        rows = []
        for i in range(len(normals)):
            rgb = np.uint8((batch.rgb[i, :, -1].permute(1, 2, 0).numpy() + 1) * 127.5)
            views = [rgb, disparity_to_rgb(images[i, :, -1].mean(0).numpy(), -1, 1),
                     disparity_to_rgb(batch.disparity[i, -1].numpy(), -1, 1),
                     normals_to_rgb(normals[i, :, -1].permute(1, 2, 0).numpy()),
                     normals_to_rgb(batch.normals[i, :, -1].permute(1, 2, 0).numpy())]
            rows.append(np.hstack(views))
        path = self.run / 'samples' / f'{self.stage}_{self.step:06d}.png'
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])

    def save(self) -> None:
        """Write checkpoint.pt, whole or not at all."""
        state = {'stage': self.stage, 'step': self.step,
                 'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
                 'latents': [list(self.nets.vae.config.latents_mean),
                             list(self.nets.vae.config.latents_std)]}
        for name, nets in (('nets', self.nets), ('average', self.average)):
            state[name] = {part: module.state_dict() for part, module in nets.modules.items()}
        runs.save_checkpoint(self.run, state)

    def resume(self) -> None:
        """Go on from checkpoint.pt."""
        state = runs.load_checkpoint(self.run)
        for name, nets in (('nets', self.nets), ('average', self.average)):
            for part, module in nets.modules.items():
                module.load_state_dict(state[name][part])
            mean, std = state['latents']
            nets.vae.register_to_config(latents_mean=mean, latents_std=std)
        self.stage, self.step = state['stage'], state['step']
        if state['optimizers'] and self.stage < len(self.stages):
            self.start(self.stages[self.stage])
            for optimizer, saved in zip(self.optimizers, state['optimizers']):
                optimizer.load_state_dict(saved)

    def export(self) -> Path:
        """Write the averaged weights as a model folder (fp16 shards)."""
        from dkt_ros.model.saving import save_model_folder

        last = self.stages[min(self.stage, len(self.stages)) - 1]
        one = last.kind == 'e2e'
        save_model_folder(
            self.run / 'model', self.average.transformer, self.average.vae, self.average.rows,
            default_num_inference_steps=1 if one else 5,
            initial_noise='zeros' if one else 'gaussian',
            default_height=last.height, default_width=last.width,
            sensor_encoder=self.average.sensor_encoder)
        return self.run / 'model'


def load_model(nets: Networks, folder: str | Path) -> None:
    """
    Take weights, latent statistics and prompt rows over from a model folder.

    A model without a sensor's encoder gets one that is not yet listened to.

    Raises
    ------
    UserError
        If the model has another shape.

    """
    from dkt_ros.model.pipeline import DKTPipeline

    model = DKTPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    try:
        nets.vae.load_state_dict(model.vae.state_dict())
        nets.transformer.load_state_dict(widened(model.transformer.state_dict(),
                                                 nets.transformer.config.in_channels))
        if model.sensor_encoder is not None and nets.sensor_encoder is not None:
            nets.sensor_encoder.load_state_dict(model.sensor_encoder.state_dict())
    except RuntimeError as error:
        raise UserError(f'{folder} has not the shape that `vae` and `transformer` of the '
                        f'configuration ask for: {error}') from error
    nets.vae.register_to_config(latents_mean=list(model.vae.config.latents_mean),
                                latents_std=list(model.vae.config.latents_std))
    nets.rows = {task: model.prompt_rows([task])[0].detach() for task in TASKS}


def widened(state: dict[str, torch.Tensor], in_channels: int) -> dict[str, torch.Tensor]:
    """Return the DiT's weights with more input channels, which do nothing."""
    weight = state['patch_embedding.weight']
    missing = in_channels - weight.shape[1]
    if missing <= 0:
        return state
    zeros = weight.new_zeros(len(weight), missing, *weight.shape[2:])
    return {**state, 'patch_embedding.weight': torch.cat([weight, zeros], dim=1)}


def make_optimizers(nets: Networks, stage: StageConfig,
                    parameters: list[torch.nn.Parameter]) -> list[torch.optim.Optimizer]:
    """Return AdamW for all parameters, or Muon for the DiT's matrices and AdamW for the rest."""
    matrices = []
    if stage.optimizer == 'muon':
        matrices = [p for p in nets.transformer.blocks.parameters()
                    if p.requires_grad and p.ndim == 2 and min(p.shape) > 8]
    chosen = {id(p) for p in matrices}
    rest = [p for p in parameters if id(p) not in chosen]
    optimizers = [torch.optim.AdamW(rest, lr=stage.learning_rate, betas=(0.9, 0.98),
                                    weight_decay=stage.weight_decay)]
    if matrices:
        # This scaling gives updates of AdamW's size, so that one learning rate serves both.
        optimizers.append(torch.optim.Muon(matrices, lr=stage.learning_rate,
                                           weight_decay=stage.weight_decay,
                                           adjust_lr_fn='match_rms_adamw'))
    return optimizers


def compile_networks(nets: Networks, on: bool) -> None:
    """Compile the networks in place, for fixed shapes, or run them eagerly again."""
    for module in (nets.vae.encoder, nets.vae.decoder, nets.transformer):
        module._compiled_call_impl = None
        if on:
            module.compile(dynamic=False)


def learning_rate(stage: StageConfig, step: int) -> float:
    """Return the rate at `step`: linear warm-up, constant, linear decay to zero."""
    warm = min(1.0, (step + 1) / max(1, stage.warmup_steps))
    left = (stage.steps - step) / max(1.0, stage.decay * stage.steps)
    return stage.learning_rate * min(warm, 1.0, left)


def run_train(config: TrainConfig, resume: bool = False) -> Path:
    """
    Train as `config` says; return the model folder.

    Raises
    ------
    UserError
        If the run exists and `resume` is not set, or the data cannot serve.

    """
    if config.threads:
        torch.set_num_threads(config.threads)
    if not resume:
        runs.check_free(runs.run_folder(config))
    trainer = Trainer(config, load_clips(config.data))
    if resume:
        trainer.resume()
    console.print(f'run: {trainer.run}  scenes: {len(trainer.train_clips)}')
    return trainer.fit()

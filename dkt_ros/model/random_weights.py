"""Networks of the released shapes with random weights, for timing without the checkpoints."""
from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import nn

from dkt_ros.model.checks import check_choice
from dkt_ros.model.pipeline import SCHEDULE_SHIFT, DKTPipeline
from dkt_ros.model.prompt import PromptRows

NUM_ROWS, NUM_TOKENS = 3, 512
_COMMON = {'patch_size': (1, 2, 2), 'attention_head_dim': 128, 'in_channels': 48,
           'out_channels': 16, 'text_dim': 4096, 'freq_dim': 256, 'image_dim': 1280}
TRANSFORMERS = {
    '1.3b': {**_COMMON, 'num_attention_heads': 12, 'ffn_dim': 8960, 'num_layers': 30,
             'added_kv_proj_dim': 1536},
    '14b': {**_COMMON, 'num_attention_heads': 40, 'ffn_dim': 13824, 'num_layers': 40,
            'added_kv_proj_dim': 5120},
}


def random_pipeline(shape: str, layers: int = 0, device: str | torch.device = 'cpu',
                    dtype: torch.dtype = torch.float32, task: str = 'depth') -> DKTPipeline:
    """
    Build a pipeline of a released shape.

    Parameters
    ----------
    shape : str
        A key of `TRANSFORMERS`.
    layers : int
        Of the transformer; 0 for all of them.
    device, dtype
        Where and how weights are made: never twice, never in float32 first.
    task : str
        What its prompt is for.

    """
    check_choice('shape', shape, tuple(TRANSFORMERS))
    config = dict(TRANSFORMERS[shape])
    config['num_layers'] = layers or config['num_layers']
    with torch.device('meta'):
        transformer, vae = WanTransformer3DModel(**config), AutoencoderKLWan()
    # tables are computed, not drawn
    transformer.rope = nn.Module()
    transformer, vae = (_drawn(module, device, dtype) for module in (transformer, vae))
    transformer.rope = WanRotaryPosEmbed(config['attention_head_dim'], config['patch_size'],
                                         1024).to(device)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(NUM_ROWS, config['text_dim'], generator=generator)
    prompts = PromptRows.from_rows({task: rows}, NUM_TOKENS).to(device)
    return DKTPipeline(transformer, vae, FlowMatchEulerDiscreteScheduler(shift=SCHEDULE_SHIFT),
                       prompts)


def _drawn(module: nn.Module, device: str | torch.device, dtype: torch.dtype) -> nn.Module:
    generator = torch.Generator(device).manual_seed(0)
    module = nn.Module.to(module, dtype).to_empty(device=device)
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            if parameter.ndim > 1 and 'gamma' not in name:
                spread = parameter[0].numel() ** -0.5
                parameter.normal_(0.0, spread, generator=generator)
            else:
                parameter.fill_(0.0 if name.endswith('bias') else 1.0)
    return module

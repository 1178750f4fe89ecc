"""
Published weights (the original Wan / Fun-Control key layout, DKT's LoRA) -> diffusers.

Only dictionaries of tensors here, no files. Every key must find its place: an unknown, a missing
or a wrongly shaped tensor is an error that names it.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from dkt_ros.errors import UserError

HEAD_DIM = 128

TRANSFORMER_NAMES = {
    'time_embedding.0': 'condition_embedder.time_embedder.linear_1',
    'time_embedding.2': 'condition_embedder.time_embedder.linear_2',
    'time_projection.1': 'condition_embedder.time_proj',
    'text_embedding.0': 'condition_embedder.text_embedder.linear_1',
    'text_embedding.2': 'condition_embedder.text_embedder.linear_2',
    'img_emb.proj.0': 'condition_embedder.image_embedder.norm1',
    'img_emb.proj.1': 'condition_embedder.image_embedder.ff.net.0.proj',
    'img_emb.proj.3': 'condition_embedder.image_embedder.ff.net.2',
    'img_emb.proj.4': 'condition_embedder.image_embedder.norm2',
    'patch_embedding': 'patch_embedding',
    'head.head': 'proj_out',
}
BLOCK_NAMES = {
    'norm3': 'norm2',
    'ffn.0': 'ffn.net.0.proj',
    'ffn.2': 'ffn.net.2',
    'cross_attn.k_img': 'attn2.add_k_proj',
    'cross_attn.v_img': 'attn2.add_v_proj',
    'cross_attn.norm_k_img': 'attn2.norm_added_k',
} | {
    f'{old}.{a}': f'{new}.{b}'
    for old, new in (('self_attn', 'attn1'), ('cross_attn', 'attn2'))
    for a, b in (('q', 'to_q'), ('k', 'to_k'), ('v', 'to_v'), ('o', 'to_out.0'),
                 ('norm_q', 'norm_q'), ('norm_k', 'norm_k'))
}
RESIDUAL_NAMES = {'residual.0': 'norm1', 'residual.2': 'conv1', 'residual.3': 'norm2',
                  'residual.6': 'conv2', 'shortcut': 'conv_shortcut'}
VAE_NAMES = {'conv1': 'quant_conv', 'conv2': 'post_quant_conv'} | {
    f'{part}.{a}': f'{part}.{b}'
    for part in ('encoder', 'decoder')
    for a, b in (('conv1', 'conv_in'), ('head.0', 'norm_out'), ('head.2', 'conv_out'))
}
VAE_MIDDLE = {'0': 'resnets.0', '1': 'attentions.0', '2': 'resnets.1'}


def transformer_key(key: str) -> str:
    """Return diffusers' name of an original DiT tensor."""
    if key == 'head.modulation':
        return 'scale_shift_table'
    block = re.fullmatch(r'blocks\.(\d+)\.(.+)', key)
    if block and block[2] == 'modulation':
        return f'blocks.{block[1]}.scale_shift_table'
    name, _, kind = (block[2] if block else key).rpartition('.')
    names = BLOCK_NAMES if block else TRANSFORMER_NAMES
    if name not in names or kind not in ('weight', 'bias'):
        raise UserError(f'tensor {key!r} is not part of a Wan 2.1 Fun-Control v1.0 transformer; '
                        'give the base that DKT was trained on (v1.1 has a `ref_conv` and is '
                        'another model)')
    return (f'blocks.{block[1]}.' if block else '') + f'{names[name]}.{kind}'


def convert_transformer(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename all tensors of an original DiT."""
    return {transformer_key(key): value for key, value in state.items()}


def transformer_config(state: Mapping[str, torch.Tensor], head_dim: int = HEAD_DIM) -> dict:
    """Read the configuration of `WanTransformer3DModel` off the shapes of an original DiT."""
    patch = _need(state, 'patch_embedding.weight')
    text, time = _need(state, 'text_embedding.0.weight'), _need(state, 'time_embedding.0.weight')
    dim, in_channels, *patch_size = patch.shape
    if dim % head_dim:
        raise UserError(f'the transformer has {dim} channels, not a multiple of the {head_dim} '
                        'of a head; give head_dim')
    image = state['img_emb.proj.1.weight'] if 'img_emb.proj.1.weight' in state else None
    out = _need(state, 'head.head.weight').shape[0]
    return {
        'patch_size': tuple(patch_size), 'num_attention_heads': dim // head_dim,
        'attention_head_dim': head_dim, 'in_channels': in_channels,
        'out_channels': out // (patch_size[0] * patch_size[1] * patch_size[2]),
        'text_dim': text.shape[1], 'freq_dim': time.shape[1],
        'ffn_dim': _need(state, 'blocks.0.ffn.0.weight').shape[0],
        'num_layers': _count(state, r'blocks\.(\d+)\.'), 'cross_attn_norm': True,
        'qk_norm': 'rms_norm_across_heads', 'eps': 1e-6,
        'image_dim': None if image is None else image.shape[1],
        'added_kv_proj_dim': None if image is None else dim, 'rope_max_seq_len': 1024,
    }


def load_transformer(state: dict[str, torch.Tensor], lora: dict[str, torch.Tensor] | None = None,
                     head_dim: int = HEAD_DIM) -> WanTransformer3DModel:
    """
    Build the DiT from original weights, in float32, with a LoRA merged if one is given.

    Raises
    ------
    UserError
        If a tensor is unknown, missing or of the wrong shape; it is named.

    """
    config = transformer_config(state, head_dim)
    if lora is not None:
        state = merge_lora(state, lora)
    return _filled(WanTransformer3DModel(**config), convert_transformer(state))


def merge_lora(state: dict[str, torch.Tensor],
               lora: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    Return `state` with W += B @ A in float32, as DKT merges: alpha 1, no rank scaling.

    Parameters
    ----------
    state : dict of str to tensor
        Original DiT, original names.
    lora : dict of str to tensor
        Keys such as `blocks.0.self_attn.q.lora_A.default.weight`, with or without the prefix
        `diffusion_model.` and the part `default.`.

    """
    merged = dict(state)
    for target, pair in lora_pairs({key: value.shape for key, value in state.items()},
                                   lora).items():
        merged[target] = merge_pair(state[target], pair)
    return merged


def lora_pairs(shapes: Mapping[str, Sequence[int]], lora: Mapping[str, torch.Tensor],
               ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """
    Return the matrices A and B of each weight that a LoRA changes.

    Parameters
    ----------
    shapes : mapping of str to sequence of int
        Of the original DiT.
    lora : mapping of str to tensor
        See `merge_lora`.

    Raises
    ------
    UserError
        If a tensor belongs to no weight, lacks its other half or does not fit.

    """
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for key in lora:
        match = re.fullmatch(r'(?:diffusion_model\.)?(.+)\.lora_([AB])\.(?:default\.)?weight', key)
        target = f'{match[1]}.weight' if match else None
        if target not in shapes:
            raise UserError(f'LoRA tensor {key!r} belongs to no weight of the base; give the base '
                            'the LoRA was trained on')
        halves.setdefault(target, {})[match[2]] = lora[key]
    pairs = {}
    for target, pair in halves.items():
        if pair.keys() != {'A', 'B'}:
            raise UserError(f'the LoRA of {target!r} lacks its {"AB".strip(*pair)} matrix; get '
                            'the file again')
        down, up, shape = pair['A'], pair['B'], tuple(shapes[target])
        if down.ndim != 2 or up.ndim != 2 or up.shape[1] != down.shape[0] \
                or (up.shape[0], down.shape[1]) != shape:
            raise UserError(f'the LoRA of {target!r} is {tuple(up.shape)} times '
                            f'{tuple(down.shape)}, the weight {shape}; give the base the LoRA '
                            'was trained on')
        pairs[target] = down, up
    return pairs


def merge_pair(weight: torch.Tensor, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return W + B A in float32."""
    down, up = pair
    return weight.float() + up.float() @ down.float()


def convert_vae(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename all tensors of an original Wan 2.1 VAE."""
    per_level = vae_config(state)['num_res_blocks'] + 2
    return {vae_key(key, per_level): value for key, value in state.items()}


def vae_key(key: str, up_blocks_per_level: int) -> str:
    """Return diffusers' name of an original VAE tensor; a decoder level ends in an up-sampler."""
    name, _, kind = key.rpartition('.')
    if name in VAE_NAMES:
        return f'{VAE_NAMES[name]}.{kind}'
    match = re.fullmatch(r'(encoder|decoder)\.(middle|downsamples|upsamples)\.(\d+)\.(.+)', name)
    if not match:
        raise UserError(f'tensor {key!r} is not part of a Wan 2.1 VAE; give Wan2.1_VAE')
    part, group, index, rest = match.groups()
    rest = RESIDUAL_NAMES.get(rest, rest)
    if group == 'middle' and index in VAE_MIDDLE:
        return f'{part}.mid_block.{VAE_MIDDLE[index]}.{rest}.{kind}'
    if group == 'downsamples':
        return f'{part}.down_blocks.{index}.{rest}.{kind}'
    level, place = divmod(int(index), up_blocks_per_level)
    is_sampler = place == up_blocks_per_level - 1
    where = 'upsamplers.0' if is_sampler else f'resnets.{place}'
    return f'{part}.up_blocks.{level}.{where}.{rest}.{kind}'


def vae_config(state: Mapping[str, torch.Tensor]) -> dict:
    """Read the configuration of `AutoencoderKLWan` off the shapes of an original Wan 2.1 VAE."""
    base = _need(state, 'encoder.conv1.weight').shape[0]
    widths, downsample, blocks = [], [], 0
    for index in range(_count(state, r'encoder\.downsamples\.(\d+)\.')):
        prefix = f'encoder.downsamples.{index}.'
        if f'{prefix}resample.1.weight' in state:
            downsample.append(f'{prefix}time_conv.weight' in state)
            continue
        if len(widths) == len(downsample):
            widths.append(0)
        widths[-1] = _need(state, f'{prefix}residual.6.weight').shape[0]
        blocks += 1
    return {'base_dim': base, 'z_dim': _need(state, 'conv2.weight').shape[0],
            'dim_mult': [width // base for width in widths],
            'num_res_blocks': blocks // max(len(widths), 1), 'temperal_downsample': downsample,
            'decoder_base_dim': _need(state, 'decoder.head.2.weight').shape[1]}


def load_vae(state: dict[str, torch.Tensor]) -> AutoencoderKLWan:
    """Build the VAE from original weights, in float32; strict as `load_transformer`."""
    return _filled(AutoencoderKLWan(**vae_config(state)), convert_vae(state))


def check_tensors(expected: Mapping[str, Sequence[int]],
                  shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise UserError unless `shapes` (diffusers names) are those `expected`, one by one."""
    for what, keys in (('is missing', expected.keys() - shapes.keys()),
                       ('is unknown', shapes.keys() - expected.keys())):
        if keys:
            raise UserError(f'tensor {sorted(keys)[0]!r} (diffusers name) {what}, {len(keys)} in '
                            'all; the file is incomplete or of another model')
    for key, shape in shapes.items():
        if tuple(shape) != tuple(expected[key]):
            raise UserError(f'tensor {key!r} (diffusers name) is {tuple(shape)}; '
                            f'{tuple(expected[key])} is expected')


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what `state_dict` holds."""
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def _filled(module: torch.nn.Module, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    check_tensors(shapes_of(module), {key: value.shape for key, value in state.items()})
    module.load_state_dict({key: value.float() for key, value in state.items()})
    return module.eval()


def _need(state: Mapping[str, torch.Tensor], key: str) -> torch.Tensor:
    if key not in state:
        raise UserError(f'tensor {key!r} is missing; the file is incomplete or not in the '
                        'original Wan 2.1 layout')
    return state[key]


def _count(state: Mapping[str, torch.Tensor], pattern: str) -> int:
    found = (re.match(pattern, key) for key in state)
    return max((int(match[1]) for match in found if match), default=-1) + 1

"""
Exact removal of what the constant prompt and the empty image decide, from a loaded DiT.

The algebra is exact; in float32 the result agrees to rounding. What is left is in `folded`:

- the image branch attends to equal tokens, so it is one vector, added to the output bias;
- the text rows of a task are few; the padding is one row whose logit has the logarithm of its
  count as a bias; a prompt of one row makes the whole cross-attention one vector;
- the output projection is multiplied into the values, weights of norms into the projections;
- input channels that are always zero are gone.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from torch import nn

from dkt_ros.model.context import ConstantContext, FewRowsContext, inverse_rms
from dkt_ros.model.folded import FoldedBlock, FoldedTransformer
from dkt_ros.model.prompt import PromptRows


@torch.no_grad()
def fold(network: WanTransformer3DModel, prompts: PromptRows,
         sensor_channels: int = 0) -> FoldedTransformer:
    """
    Fold a DiT over the prompts of its tasks.

    Parameters
    ----------
    network : WanTransformer3DModel
        Not changed; weights that a fold does not touch are shared with it.
    prompts : PromptRows
        The tasks.
    sensor_channels : int
        Input channels after the RGB latents that are used; those after them are zeros.

    Returns
    -------
    FoldedTransformer
        On the device and in the dtype of `network`.

    Raises
    ------
    ValueError
        If the network has parts that no network of DKT has.

    """
    config, embedder = network.config, network.condition_embedder
    if config.pos_embed_seq_len is not None or not config.cross_attn_norm:
        raise ValueError(f'pos_embed_seq_len is {config.pos_embed_seq_len} and cross_attn_norm '
                         f'{config.cross_attn_norm}; None and True are expected, as in DKT')
    text, log_counts = _distinct_text(embedder.text_embedder, prompts)
    image = _image_token(embedder.image_embedder, config.image_dim)
    blocks = [_folded_block(block, text, log_counts, image) for block in network.blocks]
    tables = torch.cat([block.scale_shift_table.float() for block in network.blocks])
    rope, embeddings = network.rope, _patch_embeddings(network, sensor_channels)
    return FoldedTransformer(
        config, prompts.tasks, blocks, *embeddings, embedder, network.proj_out, tables,
        network.scale_shift_table[0].float(),
        torch.stack([rope.freqs_cos[:, ::2], rope.freqs_sin[:, ::2]]).float())


def _linear(weight: torch.Tensor, bias: torch.Tensor | None, like: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(*weight.shape[::-1], bias=bias is not None, device='meta')
    layer.weight = nn.Parameter(weight.to(like), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.to(like), requires_grad=False)
    return layer


def _apply(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, layer.weight.float(), layer.bias.float())


def _layer_norm(norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], norm.weight.float(), norm.bias.float(), norm.eps)


def _distinct_text(embedder: nn.Module, prompts: PromptRows) -> tuple[torch.Tensor, torch.Tensor]:
    """Return embedded rows (tasks, m, D) and the logarithm of their counts (tasks, m)."""
    total = prompts.config.num_text_tokens
    rows = [prompts.rows[task].float() for task in prompts.tasks]
    num = max(len(row) + (len(row) < total) for row in rows)
    text = torch.stack([F.pad(row, (0, 0, 0, num - len(row))) for row in rows])
    counts = torch.zeros(len(rows), num)
    for count, row in zip(counts, rows, strict=True):
        count[:len(row)] = 1.0
        if len(row) < total:
            count[len(row)] = total - len(row)
    text = text.to(embedder.linear_1.weight.device)
    wide = F.gelu(_apply(embedder.linear_1, text), approximate='tanh')
    return _apply(embedder.linear_2, wide), counts.log().to(text.device)


def _image_token(embedder: nn.Module | None, image_dim: int | None) -> torch.Tensor | None:
    """Return what each token of an empty image becomes, (D,)."""
    if embedder is None:
        return None
    zeros = torch.zeros(image_dim, device=embedder.norm1.weight.device)
    wide = F.gelu(_apply(embedder.ff.net[0].proj, _layer_norm(embedder.norm1, zeros)))
    return _layer_norm(embedder.norm2, _apply(embedder.ff.net[2], wide))


def _folded_block(block: nn.Module, text: torch.Tensor, log_counts: torch.Tensor,
                  image: torch.Tensor | None) -> FoldedBlock:
    attention = block.attn1
    order = _halves(attention.inner_dim, attention.heads).to(text.device)
    layers = attention.to_q, attention.to_k, attention.to_v
    weight, bias = (torch.cat([query[order], key[order], value]) for query, key, value in
                    zip(*((layer.weight, layer.bias) for layer in layers), strict=True))
    qk_weight = torch.stack([attention.norm_q.weight[order], attention.norm_k.weight[order]])
    return FoldedBlock(
        _linear(weight, bias, attention.to_q.weight), qk_weight.float(), attention.to_out[0],
        _folded_context(block, text, log_counts, image), block.ffn.net[0].proj,
        block.ffn.net[2], attention.heads, block.norm1.eps)


def _halves(dim: int, heads: int) -> torch.Tensor:
    """Return the order that puts the even channels of each head before the odd ones."""
    return torch.arange(dim).view(heads, -1, 2).transpose(1, 2).flatten()


def _folded_context(block: nn.Module, text: torch.Tensor, log_counts: torch.Tensor,
                    image: torch.Tensor | None) -> nn.Module:
    attention, out = block.attn2, block.attn2.to_out[0]
    weight, value = out.weight.float(), _apply(attention.to_v, text)
    constant = out.bias.float()
    if image is not None:
        constant = constant + weight @ _apply(attention.add_v_proj, image)
    if text.shape[1] == 1:
        return ConstantContext(constant + F.linear(value[:, 0], weight))
    heads, dim = attention.heads, attention.inner_dim
    tasks, num = text.shape[:2]
    size = dim // heads
    key = _apply(attention.to_k, text)
    key = key * inverse_rms(key, attention.norm_k.eps) * attention.norm_k.weight.float() \
        * attention.norm_q.weight.float() * size ** -0.5
    # block-diagonal: head h of the query meets head h of row j in column h m + j
    keys = torch.einsum('tmhd,hg->thdgm', key.view(tasks, num, heads, size),
                        torch.eye(heads, device=text.device))
    values = torch.einsum('tmhd,ohd->thmo', value.view(tasks, num, heads, size),
                          weight.view(-1, heads, size))
    bias = log_counts[:, None, None].expand(tasks, 1, heads, num).flatten(2)
    return FewRowsContext(
        _query(block), keys.reshape(tasks, dim, -1).to(out.weight),
        values.reshape(tasks, -1, dim).to(out.weight), bias, constant, heads, block.norm2.eps)


def _query(block: nn.Module) -> nn.Linear:
    """Return the query's projection with the affine part of the norm before it."""
    layer, norm = block.attn2.to_q, block.norm2
    weight = layer.weight.float()
    return _linear(weight * norm.weight.float(), layer.bias.float() + weight @ norm.bias.float(),
                   layer.weight)


def _patch_embeddings(network: WanTransformer3DModel,
                      sensor_channels: int) -> tuple[nn.Linear, nn.Linear]:
    """Return the embedding of the noisy target and that of the condition, which has the bias."""
    layer, z = network.patch_embedding, network.config.out_channels
    ends = z, 2 * z + sensor_channels
    target, rgb = (layer.weight[:, start:end].flatten(1) for start, end in zip((0, z), ends))
    return _linear(target, None, layer.weight), _linear(rgb, layer.bias, layer.weight)

"""Published files at toy width, on disk, and Wan's own umT5 in a few lines."""
import math

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from toy_model import (
    published_lora,
    published_transformer_shapes,
    published_vae_shapes,
    published_weights,
    randn,
)

VAE = {'base_dim': 8, 'z_dim': 16, 'dim_mult': [1, 2, 2, 2], 'num_res_blocks': 1,
       'temperal_downsample': [False, True, True]}
WORDS = ('depth', 'normal')
HEADS, SIZE, WIDE, BUCKETS = 3, 4, 20, 8


def write_published(folder, shards=1, layers=2, image=40, **shapes):
    """Write base and LoRA; return their paths."""
    base, lora = folder / 'base', folder / 'lora'
    base.mkdir(parents=True)
    lora.mkdir()
    state = published_weights(published_transformer_shapes(layers=layers, image=image, **shapes))
    stem, keys = 'diffusion_pytorch_model', sorted(state)
    for i in range(shards):
        name = stem if shards == 1 else f'{stem}-{i + 1:05d}-of-{shards:05d}'
        save_file({key: state[key] for key in keys[i::shards]}, base / f'{name}.safetensors')
    torch.save(published_weights(published_vae_shapes(**VAE)), base / 'Wan2.1_VAE.pth')
    torch.save(text_encoder_state(), base / 'models_t5_umt5-xxl-enc-bf16.pth')
    write_tokenizer(base / 'google' / 'umt5-xxl')
    save_file(published_lora(layers, **{k: v for k, v in shapes.items() if k in ('dim', 'ffn')}),
              lora / 'dkt.safetensors')
    return base, lora


def write_rows(path, width=32):
    save_file({'depth': randn(7000, 3, width), 'normal': randn(7001, 2, width)}, path)
    return path


def write_tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast
    words = {'<pad>': 0, '</s>': 1, 'de': 2, 'pth': 3, 'normal': 4, 'depth': 5}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token='<pad>'))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single='$A </s>', special_tokens=[('</s>', 1)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token='<pad>', eos_token='</s>',
                            ).save_pretrained(folder)


def text_encoder_state(width=32, layers=2):
    """Return a umT5 in the published names."""
    shapes = {'token_embedding.weight': (6, width), 'norm.weight': (width,)}
    for n in range(layers):
        inner = HEADS * SIZE
        shapes |= {f'blocks.{n}.{name}.weight': shape for name, shape in {
            'norm1': (width,), 'norm2': (width,), 'attn.q': (inner, width),
            'attn.k': (inner, width), 'attn.v': (inner, width), 'attn.o': (width, inner),
            'pos_embedding.embedding': (BUCKETS, HEADS), 'ffn.gate.0': (WIDE, width),
            'ffn.fc1': (WIDE, width), 'ffn.fc2': (width, WIDE)}.items()}
    return published_weights(shapes)


def wan_text_encoder(state, ids, layers=2):
    """Encode (n,) ids as Wan does: T5 without softmax scale, a position bias in each block."""
    def norm(x, weight):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight

    x = state['token_embedding.weight'][ids]
    for n in range(layers):
        part = {key.removeprefix(f'blocks.{n}.'): value for key, value in state.items()}
        y = norm(x, part['norm1.weight'])
        q, k, v = ((y @ part[f'attn.{c}.weight'].T).view(len(x), HEADS, SIZE) for c in 'qkv')
        bias = part['pos_embedding.embedding.weight'][relative_buckets(len(x))].permute(2, 0, 1)
        shares = (torch.einsum('ihd,jhd->hij', q, k) + bias).softmax(-1)
        y = torch.einsum('hij,jhd->ihd', shares, v).flatten(1)
        x = x + y @ part['attn.o.weight'].T
        y = norm(x, part['norm2.weight'])
        gate = F.gelu(y @ part['ffn.gate.0.weight'].T, approximate='tanh')
        x = x + (gate * (y @ part['ffn.fc1.weight'].T)) @ part['ffn.fc2.weight'].T
    return norm(x, state['norm.weight'])


def relative_buckets(length, max_distance=128):
    distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
    half = BUCKETS // 2
    exact = half // 2
    buckets = torch.empty_like(distance)
    for i in range(length):
        for j in range(length):
            d = abs(int(distance[i, j]))
            far = exact + int(math.log(max(d, 1) / exact) / math.log(max_distance / exact)
                              * (half - exact))
            buckets[i, j] = (half if distance[i, j] > 0 else 0) \
                + (d if d < exact else min(far, half - 1))
    return buckets

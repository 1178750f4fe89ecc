"""
umT5, run once when a model folder is prepared: what it says of a word is all that is kept.

The published file has the names of Wan's own implementation; the network is transformers'.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from dkt_ros.errors import UserError

NUM_TOKENS = 512
NAMES = {
    'token_embedding.weight': 'shared.weight',
    'norm.weight': 'encoder.final_layer_norm.weight',
}
BLOCK_NAMES = {
    'norm1': 'layer.0.layer_norm',
    'norm2': 'layer.1.layer_norm',
    'attn.q': 'layer.0.SelfAttention.q',
    'attn.k': 'layer.0.SelfAttention.k',
    'attn.v': 'layer.0.SelfAttention.v',
    'attn.o': 'layer.0.SelfAttention.o',
    'pos_embedding.embedding': 'layer.0.SelfAttention.relative_attention_bias',
    'ffn.gate.0': 'layer.1.DenseReluDense.wi_0',
    'ffn.fc1': 'layer.1.DenseReluDense.wi_1',
    'ffn.fc2': 'layer.1.DenseReluDense.wo',
}


def text_encoder_key(key: str) -> str:
    """Return transformers' name of a published umT5 tensor."""
    if key in NAMES:
        return NAMES[key]
    match = re.fullmatch(r'blocks\.(\d+)\.(.+)\.weight', key)
    if not match or match[2] not in BLOCK_NAMES:
        raise UserError(f'tensor {key!r} is not part of a umT5 encoder; give '
                        'models_t5_umt5-xxl-enc-bf16.pth')
    return f'encoder.block.{match[1]}.{BLOCK_NAMES[match[2]]}.weight'


def text_encoder_config(shapes: Mapping[str, Sequence[int]]) -> dict:
    """Read the configuration of `UMT5EncoderModel` off the shapes of published tensors."""
    try:
        buckets, heads = shapes['blocks.0.pos_embedding.embedding.weight']
        vocabulary, width = shapes['token_embedding.weight']
        return {
            'vocab_size': vocabulary, 'd_model': width, 'num_heads': heads,
            'd_kv': shapes['blocks.0.attn.q.weight'][0] // heads,
            'd_ff': shapes['blocks.0.ffn.fc1.weight'][0],
            'num_layers': 1 + max(int(key.split('.')[1]) for key in shapes
                                  if key.startswith('blocks.')),
            'relative_attention_num_buckets': buckets, 'relative_attention_max_distance': 128,
            'feed_forward_proj': 'gated-gelu', 'dropout_rate': 0.0, 'layer_norm_epsilon': 1e-6,
        }
    except KeyError as error:
        raise UserError(f'tensor {error} is missing; the text encoder is incomplete or no '
                        'umT5') from error


def load_text_encoder(state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """
    Build the encoder around published tensors, which are not copied.

    Raises
    ------
    UserError
        If a tensor is unknown, missing or of the wrong shape, or transformers is missing.

    """
    try:
        from transformers import UMT5Config, UMT5EncoderModel
    except ImportError as error:
        raise UserError('transformers is not installed, and the text encoder needs it: pip '
                        'install transformers sentencepiece, or give --prompt-rows') from error
    config = text_encoder_config({key: tuple(value.shape) for key, value in state.items()})
    with torch.device('meta'):
        model = UMT5EncoderModel(UMT5Config(**config))
    tensors = {text_encoder_key(key): value for key, value in state.items()}
    tensors['encoder.embed_tokens.weight'] = tensors['shared.weight']
    expected = model.state_dict()
    for key in sorted(expected.keys() | tensors.keys()):
        found = tuple(tensors[key].shape) if key in tensors else 'missing'
        wanted = tuple(expected[key].shape) if key in expected else 'nothing'
        if found != wanted:
            raise UserError(f'tensor {key!r} of the text encoder (transformers name) is {found}, '
                            f'{wanted} is expected; get the file again')
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def encode_words(model: torch.nn.Module, tokenizer_folder: str | Path,
                 words: Sequence[str]) -> dict[str, torch.Tensor]:
    """
    Return the rows of each word's tokens, (n, width) float32; the reference zeroes all others.

    Parameters
    ----------
    model : UMT5EncoderModel
        Result of `load_text_encoder`.
    tokenizer_folder : str or Path
        That of `google/umt5-xxl`.
    words : sequence of str
        Prompts.

    """
    from transformers import AutoTokenizer
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder), local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'tokenizer {tokenizer_folder} cannot be loaded ({reason}); give the '
                        'folder of google/umt5-xxl with --tokenizer, or give '
                        '--prompt-rows') from error
    rows = {}
    for word in words:
        # padding is masked inside the encoder, so that leaving it away changes nothing
        tokens = tokenizer(word, max_length=NUM_TOKENS, truncation=True, return_tensors='pt')
        rows[word] = model(input_ids=tokens.input_ids)[0][0].float()
    return rows

"""A LoRA in the published layout: what is trained is named as released, and merges as released."""
import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_model import published_lora, published_transformer_shapes, published_weights, randn

from dkt_ros.errors import UserError
from dkt_ros.model.lora import (
    add_lora,
    lora_parameters,
    merge_lora_file,
    released_key,
    save_lora,
)
from dkt_ros.model.released import load_transformer

SHAPES = {'dim': 48, 'ffn': 64, 'text': 12, 'freq': 16, 'in_channels': 12, 'out_channels': 4,
          'image': 16}


def base():
    return load_transformer(published_weights(published_transformer_shapes(**SHAPES)),
                            head_dim=12)


def inputs():
    return {'hidden_states': randn(1, 1, 12, 2, 4, 6), 'timestep': torch.tensor([500.0]),
            'encoder_hidden_states': randn(2, 1, 512, 12),
            'encoder_hidden_states_image': randn(3, 1, 257, 16), 'return_dict': False}


def test_an_untrained_lora_changes_nothing_and_has_the_released_keys(tmp_path):
    model = base()
    with torch.no_grad():
        before = model(**inputs())[0]
        add_lora(model, rank=4, seed=0)
        torch.testing.assert_close(model(**inputs())[0], before)
    state = load_file(save_lora(tmp_path / 'lora.safetensors', lora_parameters(model)))
    released = published_lora(dim=48, ffn=64, rank=4)
    assert {key: value.shape for key, value in state.items()} == \
        {key: value.shape for key, value in released.items()}
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert set(trained) == set(lora_parameters(model)) and len(trained) == len(released)


def test_what_peft_computes_is_what_merging_the_saved_file_computes(tmp_path):
    model = base()
    add_lora(model, rank=4, seed=0)
    with torch.no_grad():
        for i, parameter in enumerate(lora_parameters(model).values()):
            parameter.copy_(0.1 * randn(100 + i, *parameter.shape))
        expected = model(**inputs())[0]
    save_lora(tmp_path / 'lora.safetensors', lora_parameters(model))
    merged = base()
    assert merge_lora_file(merged, tmp_path / 'lora.safetensors') == 20
    with torch.no_grad():
        torch.testing.assert_close(merged(**inputs())[0], expected, atol=1e-4, rtol=1e-4)


def test_merging_agrees_with_the_converter_of_released_files(tmp_path):
    lora = published_lora(dim=48, ffn=64)
    save_file(lora, str(tmp_path / 'lora.safetensors'))
    model = base()
    merge_lora_file(model, tmp_path / 'lora.safetensors')
    expected = load_transformer(published_weights(published_transformer_shapes(**SHAPES)), lora,
                                head_dim=12)
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value)


def test_the_seed_decides_the_first_weights():
    first, second, other = base(), base(), base()
    add_lora(first, 4, seed=1)
    torch.manual_seed(5)
    add_lora(second, 4, seed=1)
    add_lora(other, 4, seed=2)
    a, b, c = (next(iter(lora_parameters(model).values())) for model in (first, second, other))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_mistakes(tmp_path):
    with pytest.raises(ValueError, match='add_k_proj'):
        released_key('blocks.0.attn2.add_k_proj.lora_A.default.weight')
    with pytest.raises(UserError, match='does not exist'):
        merge_lora_file(base(), tmp_path / 'nothing.safetensors')
    (tmp_path / 'cut.safetensors').write_bytes(b'cut')
    with pytest.raises(UserError, match='truncated'):
        merge_lora_file(base(), tmp_path / 'cut.safetensors')
    for name, state, words in (
            ('a', {'blocks.9.ffn.0.lora_A.weight': torch.ones(1, 1)}, 'belongs to no weight'),
            ('b', {'blocks.0.ffn.0.lora_A.weight': torch.ones(2, 48)}, 'lacks a matrix'),
            ('c', published_lora(dim=24, ffn=64), 'another shape')):
        save_file(state, str(tmp_path / f'{name}.safetensors'))
        with pytest.raises(UserError, match=words):
            merge_lora_file(base(), tmp_path / f'{name}.safetensors')

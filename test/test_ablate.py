"""Ablations: cells, seeds, what is kept, tables; one cell of each kind on tiny networks."""
import dataclasses
import io

import numpy as np
import pytest
import yaml
from rich.console import Console
from scene_factory import make_scene

from dkt_ros.ablate_config import AblateConfig, is_training
from dkt_ros.config import PerceptionConfig
from dkt_ros.data.mixture import SourceConfig
from dkt_ros.errors import UserError
from dkt_ros.lora_config import LoraTrainConfig
from dkt_ros.options import nest
from dkt_ros.resources import share_path
from dkt_ros.tools.ablate import Cell, cells_of, measure_cell, run_ablate
from dkt_ros.tools.ablate_models import train_model, trained_values

AXES = {'window': {'image': {'stream.preset': 'image'}, 'long': {'stream.preset': 'long'}},
        'clips': {'stills': {'train.max_clip_latents': 1}}}


def quiet():
    return Console(file=io.StringIO())


def figures(cell, config, out):
    calls.append(cell.slug)
    error = {'image': 20.0, 'long': 10.0}.get(cell.label, 30.0 + (cell.seed or 0))
    return {'mae_mm': error, 'delta_105': 0.5, 'all_rel': 0.1, 'normal_deg': float('nan'),
            'opw_cm': 1.0, 'drift': 0.01, 'seam_ratio': 1.0, 'fps': 5.0}


calls: list[str] = []


def training_file(tmp_path, text='steps: 3'):
    (tmp_path / 'train.yaml').write_text(text)
    return str(tmp_path / 'train.yaml')


def test_every_cell_is_measured_once_and_kept(tmp_path):
    train = training_file(tmp_path)
    config = AblateConfig(data='scenes', train=train, axes=AXES)
    calls.clear()
    result = run_ablate(config, tmp_path, quiet(), figures)
    assert calls == ['window-image', 'window-long', 'clips-stills-0', 'clips-stills-1']
    assert result['axes']['window']['long']['mae_mm'] == 10.0
    stills = result['axes']['clips']['stills']
    assert (stills['mae_mm'], stills['spread']['mae_mm'], stills['seeds']) == (30.5, 0.5, 2)
    text = (tmp_path / 'ablation.md').read_text()
    assert '| long | 10.0 | 0.500 | 0.1000 | - | 1.00 |' in text
    assert '| stills | 30.5 ± 0.5 |' in text and '![window](window-plot.png)' in text
    assert (tmp_path / 'window-plot.png').stat().st_size > 5000
    run_ablate(config, tmp_path, quiet(), figures)
    assert len(calls) == 4
    more = {**AXES, 'more': {'low': {'stream.preset': 'low_latency'},
                             'as above': {'stream.preset': 'long', 'stream.overlap': 'auto'}}}
    run_ablate(AblateConfig(data='scenes', train=train, axes=more, seeds=(0, 1, 2)), tmp_path,
               quiet(), figures)
    assert calls[4:] == ['clips-stills-2', 'more-low']
    training_file(tmp_path, 'steps: 4')
    run_ablate(config, tmp_path, quiet(), figures)
    assert calls[6:] == ['clips-stills-0', 'clips-stills-1']
    run_ablate(AblateConfig(data='others', train=train, axes=AXES), tmp_path, quiet(), figures)
    assert len(calls) == 12


def test_models_of_the_study_have_a_run_for_each_seed():
    config = AblateConfig(
        data='scenes', train='train.yaml', common={'normals.source': 'none'}, seeds=(4, 7),
        models={'one': {'train.steps': 5}},
        axes={'steps': {'1': {'model': 'one', 'stream.num_inference_steps': 1},
                        'tiny': {'normals.source': 'depth'}}})
    cells = list(cells_of(config))
    assert [(cell.label, cell.seed) for cell in cells] == [('1', 4), ('1', 7), ('tiny', None)]
    assert cells[0].changes == {'model': 'one', 'stream.num_inference_steps': 1,
                                'normals.source': 'none'}
    assert cells[2].changes == {'normals.source': 'depth'}


def test_dotted_names():
    assert nest({'a.b': 1, 'a.c': 2, 'd': 3}) == {'a': {'b': 1, 'c': 2}, 'd': 3}
    assert Cell('a b', 'x/y', {}).slug == 'a_b-x_y'


@pytest.mark.parametrize('changes, words', [
    ({'axes': {}}, 'at least one axis'), ({'axes': {'a': [1]}}, "axis 'a'"),
    ({'axes': {'a': {'b': {'mode': 'magic'}}}}, "'magic'"),
    ({'axes': {'a': {'b': {'train.steps': 3}}}}, 'no training file'),
    ({'axes': AXES, 'train': 'x', 'seeds': ()}, 'seeds is empty'),
    ({'axes': AXES, 'train': 'x', 'common': {'train.steps': 3}}, 'into the training file'),
    ({'axes': {'a': {'b': {}, 'c': {'protocol': 'affine-gt'}}}}, 'cannot be compared'),
    ({'axes': AXES, 'train': 'x', 'models': {'m': {'stream.preset': 'image'}}}, "'train.'"),
    ({'axes': AXES, 'train': 'x', 'models': {'m': {'train.base': 'n'}, 'n': {'train.base': 'm'}}},
     'bases of each other')])
def test_mistakes(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        run_ablate(AblateConfig(data='scenes', **changes), tmp_path, quiet(), figures)


@pytest.mark.parametrize('name', ['ablate', 'ablate_train'])
def test_the_shipped_studies_change_options_that_exist(name):
    config = AblateConfig.from_yaml(share_path('config', f'{name}.yaml'))
    config = dataclasses.replace(config, train=str(share_path('config', 'train_flow.yaml')))
    assert len(config.axes) >= 3
    for cell in cells_of(config):
        options = {k: v for k, v in cell.changes.items()
                   if k not in ('mode', 'model', 'protocol') and not is_training(k)}
        PerceptionConfig.from_dict(nest(options))
        if cell.trains:
            values = trained_values(cell.changes, config, cell.seed)
            values['base'] = 'a folder'
            for source in LoraTrainConfig.from_dict(values).data:
                SourceConfig.from_dict(source)


def test_cells_for_real(tmp_path):
    pytest.importorskip('torch')
    from lora_run import make_base, make_config, make_data
    make_base(tmp_path / 'base')
    make_data(tmp_path)
    make_scene(tmp_path / 'eval' / 'a', 3)
    values = make_config(tmp_path, steps=2).to_dict()
    (tmp_path / 'train.yaml').write_text(yaml.safe_dump({**values, 'trackers': []}))
    config = AblateConfig(data=str(tmp_path / 'eval'), model=str(tmp_path / 'base'), device='cpu',
                          train=str(tmp_path / 'train.yaml'), protocol='affine-gt', axes=AXES)
    plain = measure_cell(Cell('a', 'b', {'stream.preset': 'image', 'normals.source': 'none'}),
                         config, tmp_path)
    assert np.isfinite(plain['mae_mm']) and plain['fps'] > 0 and np.isnan(plain['normal_deg'])
    offline = measure_cell(Cell('a', 'c', {'mode': 'offline', 'normals.source': 'none'}), config,
                           tmp_path)
    assert np.isfinite(offline['mae_mm'])
    trained = measure_cell(Cell('a', 'd', {'train.max_clip_latents': 1, 'stream.preset': 'image',
                                           'normals.source': 'none'}, 1), config, tmp_path)
    assert np.isfinite(trained['mae_mm'])
    run, = (tmp_path / 'runs').iterdir()
    asked = yaml.safe_load((run / 'config.yaml').read_text())
    assert (asked['seed'], asked['max_clip_latents']) == (1, 1)
    with pytest.raises(UserError, match='allowed'):
        measure_cell(Cell('a', 'e', {'stream.preset': 'magic'}), config, tmp_path)


def test_a_lora_on_a_model_that_the_study_pretrains(tmp_path):
    pytest.importorskip('torch')
    import torch
    from lora_run import make_base, make_config, make_data

    from dkt_ros.model.pipeline import DKTPipeline
    make_base(tmp_path / 'base')
    make_data(tmp_path)
    values = make_config(tmp_path, steps=2, method='full', initial_weights='random').to_dict()
    values['transformer'] = {'num_heads': 2, 'head_dim': 12, 'num_layers': 1, 'ffn_dim': 16}
    (tmp_path / 'train.yaml').write_text(yaml.safe_dump({**values, 'trackers': []}))
    config = AblateConfig(data='none', train=str(tmp_path / 'train.yaml'), axes=AXES,
                          models={'drawn': {'train.target': 'rgb'}})
    lora = {'train.base': 'drawn', 'train.method': 'lora', 'train.initial_weights': 'base'}
    model = train_model(trained_values(lora, config, 3), tmp_path)
    assert model == train_model(trained_values(lora, config, 3), tmp_path)
    bases = [train_model(trained_values(config.models['drawn'], config, seed), tmp_path)
             for seed in (3, 4)]
    assert len(list((tmp_path / 'runs').iterdir())) == 3 and model not in bases
    trained, base, other = map(DKTPipeline.from_pretrained, (model, *bases))
    assert trained.config.initial_noise == 'gaussian' and len(trained.transformer.blocks) == 1
    query = 'blocks.0.attn1.to_q.weight'
    rgb = 'patch_embedding.weight'  # which a LoRA leaves as it is
    weights = [pipeline.transformer.state_dict() for pipeline in (trained, base, other)]
    assert not torch.equal(weights[0][query], weights[1][query])
    assert torch.equal(weights[0][rgb], weights[1][rgb])
    assert not torch.equal(weights[1][rgb], weights[2][rgb])

"""Ablations: cells, seeds, what is kept, tables; one cell of each kind on tiny networks."""
import io

import numpy as np
import pytest
import yaml
from rich.console import Console
from scene_factory import make_scene

from dkt_ros.ablate_config import AblateConfig
from dkt_ros.config import PerceptionConfig
from dkt_ros.errors import UserError
from dkt_ros.options import nest
from dkt_ros.resources import share_path
from dkt_ros.tools.ablate import Cell, cells_of, measure_cell, run_ablate

AXES = {'window': {'image': {'stream.preset': 'image'}, 'long': {'stream.preset': 'long'}},
        'clips': {'stills': {'train.max_clip_latents': 1}}}


def quiet():
    return Console(file=io.StringIO())


def figures(cell, config, out):
    calls.append(cell.slug)
    error = {'image': 20.0, 'long': 10.0}.get(cell.label, 30.0 + (cell.seed or 0))
    return {'mae_mm': error, 'delta_105': 0.5, 'all_rel': 0.1, 'normal_deg': float('nan'),
            'opw_cm': 1.0, 'seam_ratio': 1.0, 'fps': 5.0}


calls: list[str] = []


def test_every_cell_is_measured_once_and_kept(tmp_path):
    config = AblateConfig(data='scenes', train='train.yaml', axes=AXES)
    calls.clear()
    result = run_ablate(config, tmp_path, quiet(), figures)
    assert calls == ['window-image', 'window-long', 'clips-stills-0', 'clips-stills-1']
    assert result['axes']['window']['long']['mae_mm'] == 10.0
    stills = result['axes']['clips']['stills']
    assert (stills['mae_mm'], stills['spread'], stills['seeds']) == (30.5, 0.5, 2)
    text = (tmp_path / 'ablation.md').read_text()
    assert '| long | 10.0 | 0.500 |' in text and '![window](window-plot.png)' in text
    assert (tmp_path / 'window-plot.png').stat().st_size > 5000
    run_ablate(config, tmp_path, quiet(), figures)
    assert len(calls) == 4
    run_ablate(AblateConfig(data='others', train='train.yaml', axes=AXES), tmp_path, quiet(),
               figures)
    assert len(calls) == 8


def test_dotted_names():
    assert nest({'a.b': 1, 'a.c': 2, 'd': 3}) == {'a': {'b': 1, 'c': 2}, 'd': 3}
    assert Cell('a b', 'x/y', {}).slug == 'a_b-x_y'


@pytest.mark.parametrize('changes, words', [
    ({'axes': {}}, 'at least one axis'), ({'axes': {'a': [1]}}, "axis 'a'"),
    ({'axes': {'a': {'b': {'mode': 'magic'}}}}, "'magic'"),
    ({'axes': {'a': {'b': {'train.steps': 3}}}}, 'no training file'),
    ({'axes': AXES, 'train': 'x', 'seeds': ()}, 'seeds is empty')])
def test_mistakes(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        run_ablate(AblateConfig(data='scenes', **changes), tmp_path, quiet(), figures)


def test_the_shipped_study_changes_options_that_exist():
    config = AblateConfig.from_yaml(share_path('config', 'ablate.yaml'))
    assert len(config.axes) >= 3
    for cell in cells_of(config):
        options = {k: v for k, v in cell.changes.items() if k not in ('mode', 'model')}
        PerceptionConfig.from_dict(nest(options))


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
    assert yaml.safe_load((tmp_path / 'runs' / 'a-d-1' / 'config.yaml').read_text())['seed'] == 1
    with pytest.raises(UserError, match='allowed'):
        measure_cell(Cell('a', 'e', {'stream.preset': 'magic'}), config, tmp_path)

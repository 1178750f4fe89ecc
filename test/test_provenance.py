"""What stands beside every figure, and how it is written."""
import json
from pathlib import Path

import numpy as np

import dkt_ros
from dkt_ros.provenance import model_hash, provenance, write_json


def model_folder(path, weights=b'weights'):
    (path / 'vae').mkdir(parents=True)
    (path / 'model_index.json').write_text('{}')
    (path / 'vae' / 'model.safetensors').write_bytes(weights)
    (path / 'README.md').write_text('a card')
    return path


def test_hash_follows_weights_and_configuration_only(tmp_path):
    first = model_folder(tmp_path / 'a')
    assert model_hash(first) == model_hash(model_folder(tmp_path / 'b'))
    assert model_hash(first) != model_hash(model_folder(tmp_path / 'c', b'other'))
    before = model_hash(first)
    (first / 'README.md').write_text('another card')
    assert model_hash(first) == before
    (first / 'model_index.json').write_text('{"steps": 1}')
    assert model_hash(first) != before


def test_provenance_names_version_model_machine_settings_and_seed(tmp_path):
    record = provenance(model_folder(tmp_path / 'tiny'), {'preset': 'balanced'}, seed=0)
    assert record['version'] == dkt_ros.__version__
    assert (record['model'], record['seed']) == ('tiny', 0)
    assert record['settings'] == {'preset': 'balanced'} and record['machine']['cores'] >= 1


def test_json_is_plain_and_strict(tmp_path):
    path = tmp_path / 'new' / 'summary.json'
    write_json(path, {'mae_m': np.float32(0.5), 'rel': float('nan'), 'out': Path('x'),
                      'shape': (2, np.int64(3)), 'ok': np.bool_(True)})
    assert json.loads(path.read_text()) == {'mae_m': 0.5, 'rel': None, 'out': 'x',
                                            'shape': [2, 3], 'ok': True}
    assert [p.name for p in path.parent.iterdir()] == ['summary.json']

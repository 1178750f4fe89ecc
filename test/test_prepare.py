"""Published files become a model folder; bad ones are refused and leave nothing behind."""
import io
import json
import pickle
import shutil
from collections import namedtuple

import pytest
import torch
from published_files import (
    WORDS,
    text_encoder_state,
    wan_text_encoder,
    write_published,
    write_rows,
    write_tokenizer,
)
from rich.console import Console
from safetensors.torch import load_file, save_file
from toy_model import published_lora, randn
from typer.testing import CliRunner

from dkt_ros.cli import app
from dkt_ros.errors import RunError, UserError
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.released import load_transformer, load_vae
from dkt_ros.model.text_encoder import encode_words, load_text_encoder
from dkt_ros.tools import prepare
from dkt_ros.tools.prepare import PrepareRequest, guess_tasks, run_prepare, sha256, write_shards


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp('published')
    return *write_published(folder), write_rows(folder / 'rows.safetensors')


@pytest.fixture
def copied(published, tmp_path):
    """Give files that a test may damage."""
    base, lora = (shutil.copytree(path, tmp_path / path.name) for path in published[:2])
    return base, lora, published[2]


def run(base, lora, rows, out, **options):
    options = {'dtype': 'float32', 'head_dim': 48} | options
    request = PrepareRequest(str(base), str(lora), out, prompt_rows=rows, **options)
    return run_prepare(request, Console(file=io.StringIO()))


def assert_same_weights(module, expected):
    tensors = expected.state_dict()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, tensors[name], atol=1e-6, rtol=1e-6)


def test_the_folder_holds_the_merged_networks(published, tmp_path):
    base, lora, rows = published
    run(base, lora, rows, tmp_path / 'model')
    pipeline = DKTPipeline.from_pretrained(tmp_path / 'model')
    state = load_file(base / 'diffusion_pytorch_model.safetensors')
    assert_same_weights(pipeline.transformer, load_transformer(state, published_lora(), 48))
    vae = torch.load(base / 'Wan2.1_VAE.pth', weights_only=True)
    assert_same_weights(pipeline.vae, load_vae(vae))
    assert pipeline.tasks == ('depth',)
    assert torch.equal(pipeline.prompt_rows(['depth'])[0, :3], randn(7000, 3, 32))
    assert pipeline.prompt_rows(['depth']).shape == (1, 512, 32)
    assert (pipeline.config.default_num_inference_steps, pipeline.config.default_height,
            pipeline.config.default_width, pipeline.config.initial_noise) == (
                5, 480, 832, 'gaussian')
    assert pipeline.scheduler.config.shift == 5.0


def test_it_runs(published, tmp_path):
    run(*published, tmp_path / 'model')
    pipeline = DKTPipeline.from_pretrained(tmp_path / 'model')
    pipeline.set_progress_bar_config(disable=True)
    frames = torch.randint(0, 256, (5, 32, 48, 3), dtype=torch.uint8).numpy()
    output = pipeline(frames, height=32, width=48, num_inference_steps=2, preset='faithful')
    assert output.prediction.shape == (5, 32, 48)
    assert torch.from_numpy(output.prediction).isfinite().all()


def test_shards_in_and_shards_out(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, 'SHARD_BYTES', 300_000)
    base, lora = write_published(tmp_path, shards=3)
    manifest = run(base, lora, write_rows(tmp_path / 'rows.safetensors'), tmp_path / 'model')
    written = sorted(path.name for path in (tmp_path / 'model' / 'transformer').iterdir())
    assert len([name for name in written if name.endswith('.safetensors')]) > 2
    assert len(manifest['sources']) == 5
    pipeline = DKTPipeline.from_pretrained(tmp_path / 'model')
    state = {}
    for path in base.glob('*.safetensors'):
        state |= load_file(path)
    assert_same_weights(pipeline.transformer, load_transformer(state, published_lora(), 48))


def test_the_manifest_tells_every_file(published, tmp_path):
    manifest = run(*published, tmp_path / 'model')
    stored = json.loads((tmp_path / 'model' / 'manifest.json').read_text())
    assert stored == manifest
    files = {str(path.relative_to(tmp_path / 'model'))
             for path in (tmp_path / 'model').rglob('*') if path.is_file()}
    assert {entry['name'] for entry in manifest['files']} == files - {'manifest.json'}
    for entry in manifest['files']:
        path = tmp_path / 'model' / entry['name']
        assert (entry['bytes'], entry['sha256']) == (path.stat().st_size, sha256(path))
    names = {entry['name'] for entry in manifest['sources']}
    assert names == {'diffusion_pytorch_model.safetensors', 'Wan2.1_VAE.pth', 'dkt.safetensors'}


def test_half_precision_is_rounded_after_the_merge(published, tmp_path):
    run(*published, tmp_path / 'model', dtype='bfloat16')
    stored = {}
    for path in (tmp_path / 'model' / 'transformer').glob('*.safetensors'):
        stored |= load_file(path)
    state = load_file(published[0] / 'diffusion_pytorch_model.safetensors')
    exact = load_transformer(state, published_lora(), 48).state_dict()
    for name, value in stored.items():
        assert torch.equal(value, exact[name].to(torch.bfloat16))


def test_the_text_encoder_is_wans(published, tmp_path):
    base = published[0]
    rows = encode_words(load_text_encoder(text_encoder_state()), base / 'google' / 'umt5-xxl',
                        WORDS)
    for word, ids in (('depth', [5, 1]), ('normal', [4, 1])):
        expected = wan_text_encoder(text_encoder_state(), torch.tensor(ids))
        torch.testing.assert_close(rows[word], expected, atol=1e-5, rtol=1e-5)


def test_long_prompts_agree_too(tmp_path):
    write_tokenizer(tmp_path)
    word = 'de pth normal ' * 50
    rows = encode_words(load_text_encoder(text_encoder_state()), tmp_path, [word])
    expected = wan_text_encoder(text_encoder_state(), torch.tensor([2, 3, 4] * 50 + [1]))
    torch.testing.assert_close(rows[word], expected, atol=1e-4, rtol=1e-4)


def test_without_rows_the_text_encoder_is_run(published, tmp_path):
    base, lora, _ = published
    run(base, lora, None, tmp_path / 'model', tasks=WORDS)
    pipeline = DKTPipeline.from_pretrained(tmp_path / 'model')
    assert pipeline.tasks == WORDS
    expected = wan_text_encoder(text_encoder_state(), torch.tensor([4, 1]))
    found = pipeline.prompt_rows(['normal'])[0]
    torch.testing.assert_close(found[:2], expected, atol=1e-5, rtol=1e-5)
    assert not found[2:].any()
    assert not list((tmp_path / 'model').glob('text*'))


@pytest.mark.parametrize(('name', 'task'), [
    ('Daniellesry/DKT-Depth-1-3B-v1.1', 'depth'), ('Daniellesry/DKT-Normal-14B', 'normal'),
    ('normals/dkt.safetensors', 'depth')])
def test_the_name_of_a_lora_tells_its_task(name, task):
    assert guess_tasks(name) == (task,)


def test_rows_are_cut_where_the_padding_begins(tmp_path):
    padded = torch.zeros(1, 512, 4)
    padded[0, :2] = 1.0
    save_file({'depth': padded}, tmp_path / 'rows.safetensors')
    assert prepare.read_rows(tmp_path / 'rows.safetensors', ['depth'], 4)['depth'].shape == (2, 4)


def test_shards_close_before_they_grow_too_large(tmp_path):
    tensors = {f't{i}': torch.full((10,), float(i)) for i in range(5)}
    written = []
    write_shards(tmp_path, iter(tensors.items()), dict.fromkeys(tensors, 40), 80, written.append)
    assert written == [80, 80, 40]
    index = json.loads((tmp_path / 'diffusion_pytorch_model.safetensors.index.json').read_text())
    assert set(index['weight_map']) == set(tensors)
    for name, file in index['weight_map'].items():
        assert torch.equal(load_file(tmp_path / file)[name], tensors[name])


class Bomb:
    def __reduce__(self):
        return (exec, ('raise SystemExit("code of the file was run")',))


def damage_truncate(base, lora):
    path = base / 'diffusion_pytorch_model.safetensors'
    path.write_bytes(path.read_bytes()[:-50])


def damage_truncate_vae(base, lora):
    path = base / 'Wan2.1_VAE.pth'
    path.write_bytes(path.read_bytes()[:-500])


def damage_pickle(base, lora):
    torch.save({'encoder.conv1.weight': Bomb()}, base / 'Wan2.1_VAE.pth')


def damage_old_pickle(base, lora):
    (base / 'Wan2.1_VAE.pth').write_bytes(pickle.dumps(Bomb()))


def damage_list(base, lora):
    torch.save([torch.zeros(1)], base / 'Wan2.1_VAE.pth')


def damage_lora_layers(base, lora):
    save_file(published_lora(layers=3), lora / 'dkt.safetensors')


def damage_lora_width(base, lora):
    save_file(published_lora(dim=160), lora / 'dkt.safetensors')


def damage_no_lora(base, lora):
    (lora / 'dkt.safetensors').unlink()


def damage_no_base(base, lora):
    (base / 'diffusion_pytorch_model.safetensors').unlink()


def damage_no_vae(base, lora):
    (base / 'Wan2.1_VAE.pth').unlink()


def change_base(base, change):
    path = base / 'diffusion_pytorch_model.safetensors'
    state = load_file(path)
    change(state)
    save_file(state, path)


def damage_version(base, lora):
    change_base(base, lambda state: state.update({'ref_conv.weight': torch.zeros(1)}))


def damage_missing(base, lora):
    change_base(base, lambda state: state.pop('blocks.1.ffn.2.bias'))


def damage_shape(base, lora):
    change_base(base, lambda state: state.update({'blocks.1.norm3.weight': torch.zeros(7)}))


def damage_other_model(base, lora):
    change_base(base, lambda state: state.update(
        {'patch_embedding.weight': torch.zeros(96, 16, 1, 2, 2)}))


def damage_int8(base, lora):
    change_base(base, lambda state: state.update(
        {'blocks.0.ffn.2.weight': torch.zeros(96, 128, dtype=torch.int8)}))


def damage_shards(base, lora):
    index = {'weight_map': {'a': 'diffusion_pytorch_model-00002-of-00002.safetensors'}}
    (base / 'diffusion_pytorch_model.safetensors.index.json').write_text(json.dumps(index))


DAMAGES = [
    (damage_truncate, r'diffusion_pytorch_model.safetensors is truncated or broken'),
    (damage_truncate_vae, r'Wan2.1_VAE.pth is truncated or broken'),
    (damage_pickle, r'Wan2.1_VAE.pth holds more than tensors.*not executed'),
    (damage_old_pickle, r'Wan2.1_VAE.pth holds more than tensors.*not executed'),
    (damage_list, r'Wan2.1_VAE.pth holds something else than named tensors'),
    (damage_lora_layers, r'blocks\.2.*belongs to no weight of the base'),
    (damage_lora_width, r'LoRA of .blocks.* is \(160, 4\) times \(4, 160\).*\(96, 96\)'),
    (damage_no_lora, r'lora has no \*.safetensors'),
    (damage_no_base, r'base has no diffusion_pytorch_model'),
    (damage_no_vae, r'neither Wan2.1_VAE.safetensors nor Wan2.1_VAE.pth'),
    (damage_version, r"'ref_conv.weight' is not part of a Wan 2.1 Fun-Control v1.0"),
    (damage_missing, r"'blocks.1.ffn.net.2.bias'.*is missing, 1 in all"),
    (damage_shape, r"'blocks.1.norm2.weight'.*\(7,\).*\(96,\) is expected"),
    (damage_other_model, r'takes 16 channels and gives 16.*Fun-Control'),
    (damage_int8, r"'blocks.0.ffn.2.weight'.*is I8"),
    (damage_shards, r'lacks diffusion_pytorch_model-00002-of-00002.safetensors'),
]


@pytest.mark.parametrize(('damage', 'sentence'), DAMAGES)
def test_bad_files_are_refused_with_a_sentence(copied, tmp_path, damage, sentence):
    base, lora, rows = copied
    damage(base, lora)
    with pytest.raises(UserError, match=sentence) as caught:
        run(base, lora, rows, tmp_path / 'model')
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'model').exists()


@pytest.mark.parametrize(('options', 'sentence'), [
    ({'head_dim': 128}, '96 channels, not a multiple of the 128'),
    ({'dtype': 'int4'}, "dtype is 'int4'"),
    ({'tasks': ('flow',)}, "task is 'flow'"),
])
def test_wrong_options_are_named(published, tmp_path, options, sentence):
    with pytest.raises(UserError, match=sentence):
        run(*published, tmp_path / 'model', **options)


def test_rows_of_another_width_are_refused(published, tmp_path):
    rows = write_rows(tmp_path / 'rows.safetensors', width=16)
    with pytest.raises(UserError, match=r'\(3, 16\).*rows of 32'):
        run(*published[:2], rows, tmp_path / 'model')


def test_a_full_disk_is_told_before_anything_is_written(published, tmp_path, monkeypatch):
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(prepare.shutil, 'disk_usage', lambda path: usage(10, 10, 1_000_000))
    with pytest.raises(UserError, match=r'needs 0\.0\d GB and .* has 0\.00 GB free'):
        run(*published, tmp_path / 'model')
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_leaves_the_old_model(published, tmp_path, monkeypatch):
    run(*published, tmp_path / 'model')
    before = (tmp_path / 'model' / 'manifest.json').read_text()

    def broken(*args):
        raise OSError('no space left on device')

    monkeypatch.setattr(prepare, 'merge_pair', broken)
    with pytest.raises(RunError, match='could not be written .no space'):
        run(*published, tmp_path / 'model')
    assert (tmp_path / 'model' / 'manifest.json').read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ['model']


def test_the_verb(published, tmp_path):
    base, lora, rows = published
    arguments = ['prepare', '--base', base, '--lora', lora, '--out', tmp_path / 'model',
                 '--prompt-rows', rows, '--head-dim', 48, '--json', tmp_path / 'prepare.json']
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert '2 layers of 96 channels, task depth' in ' '.join(result.output.split())
    figures = json.loads((tmp_path / 'prepare.json').read_text())
    assert {entry['name'] for entry in figures['files']} > {'model_index.json'}
    result = CliRunner().invoke(app, list(map(str, arguments[:-4])))
    assert result.exit_code == 2
    assert 'not a multiple of the 128' in ' '.join(result.output.split())


def test_only_a_model_folder_is_replaced(published, tmp_path):
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'cat.png').touch()
    with pytest.raises(UserError, match='photos is there and is no model folder'):
        run(*published, tmp_path / 'photos')
    assert (tmp_path / 'photos' / 'cat.png').exists()


def test_a_name_that_is_nowhere(published, tmp_path, monkeypatch):
    with pytest.raises(UserError, match='no_such_folder does not exist'):
        run('no_such_folder', published[1], published[2], tmp_path / 'model')
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    import huggingface_hub

    def offline(*args, **kwargs):
        raise ConnectionError('no network')

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', offline)
    with pytest.raises(UserError, match=r'nobody/nothing.*cannot be had from the hub.*no network'):
        run('nobody/nothing', published[1], published[2], tmp_path / 'model')


def test_memory_holds_a_shard_and_not_the_model(published, tmp_path, monkeypatch):
    """Tensors are asked for while shards are written, not before."""
    events = []
    monkeypatch.setattr(prepare, 'SHARD_BYTES', 300_000)
    monkeypatch.setattr(prepare, 'merge_pair',
                        lambda weight, pair: events.append('merge') or weight.float())
    save = prepare.save_file
    monkeypatch.setattr(prepare, 'save_file', lambda *args: events.append('save') or save(*args))
    run(*published, tmp_path / 'model')
    runs = [len(part.split()) for part in ' '.join(events).split('save')]
    assert max(runs) <= 8
    assert sum(runs) == 20

"""Assets: listing, banks of meshes, and the model that judges them, behind a real server."""
import base64
import json
import socket
import subprocess
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dkt_ros import cli
from dkt_ros.config import AssetsConfig
from dkt_ros.errors import RunError, UserError
from dkt_ros.material import Material
from dkt_ros.tools.render import assets
from dkt_ros.tools.render.judge import QUESTION, EndpointJudge, LocalJudge, read_verdict
from dkt_ros.tools.render.setup import find_interpreter
from dkt_ros.tools.render.worker import bank_index, material_table

GLASS = '```json\n{"thing": "wine glass", "transparent": true, "reflective": false}\n```'
POT = 'It is {"thing": "pot", "transparent": false, "reflective": true}.'
CUBE = ''.join(f'v {x} {y} {z}\n' for x in (0, 1) for y in (0, 1) for z in (0, 1)) + (
    'f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 4\n')


class FakeModel(HTTPServer):
    """A real server with a fake model: answers in turn, and keeps what it was asked."""

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Answering)
        self.answers, self.asked, self.status, self.raw = [], [], 200, None

    @property
    def url(self):
        return f'http://127.0.0.1:{self.server_port}/v1'


class Answering(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        self.server.asked.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        self.end_headers()
        if self.server.status == 200:
            reply = self.server.raw or json.dumps(
                {'choices': [{'message': {'content': self.server.answers.pop(0)}}]})
            self.wfile.write(reply.encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture
def model(monkeypatch):
    for proxy in ('http_proxy', 'HTTP_PROXY', 'OPENAI_API_KEY'):
        monkeypatch.delenv(proxy, raising=False)
    server = FakeModel()
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bank(tmp_path):
    """A bank of two meshes whose pictures have been drawn already."""
    folder = tmp_path / 'bank'
    (folder / 'thumbnails').mkdir(parents=True)
    for number, name in enumerate(('glass.obj', 'pot.obj')):
        add_mesh(folder, name, number)
    return folder


def add_mesh(folder, name, shade):
    (folder / name).write_text(f'# {shade}\n' + CUBE)
    cv2.imwrite(str(picture_of(folder, name)), np.full((8, 8, 3), 40 * shade, np.uint8))


def picture_of(folder, name):
    return folder / 'thumbnails' / f'{bank_index.digest(folder / name)[:16]}.png'


def judge_at(url, name='tiny-vl'):
    return lambda: EndpointJudge(url, name, 5.0)


def filtered(bank, server, answers):
    server.answers += answers
    return assets.run_filter(bank, judge_at(server.url), 'tiny-vl')


def test_list_names_families_and_materials_with_their_classes(tmp_path):
    result = CliRunner().invoke(cli.app, ['assets', 'list', '--json', str(tmp_path / 'a.json')])
    assert result.exit_code == 0
    listed = json.loads((tmp_path / 'a.json').read_text())
    assert 'wine_glass' in listed['families']['vessels']
    assert listed['materials']['brushed_steel'] == Material.REFLECTIVE.label
    assert set(listed['materials']) == set(material_table.LIBRARY)
    assert 'wine_glass' in result.output and 'brushed_steel' in result.output


def test_the_sheet_shows_every_family_material_and_liquid_once():
    tiles = [tile for group in assets.sheet_tiles().values() for tile in group]
    labels = [tile['label'] for tile in tiles]
    wanted = [*assets.shapes.LIBRARY, *material_table.LIBRARY, *material_table.LIQUIDS]
    assert sorted(labels) == sorted(wanted)


@pytest.mark.parametrize(('answer', 'transparent', 'reflective', 'thing'), [
    (GLASS, True, False, 'wine glass'), (POT, False, True, 'pot'),
    ('{"thing": "?"} then {"thing": "b", "transparent": false, "reflective": false}', False,
     False, 'b'),
    ('I cannot tell.', None, None, ''), ('{"transparent": "yes", "reflective": "no"}', None,
                                         None, ''), ('{broken', None, None, '')])
def test_answers_are_read_out_of_prose(answer, transparent, reflective, thing):
    verdict = read_verdict(answer)
    assert (verdict.transparent, verdict.reflective) == (transparent, reflective)
    assert (verdict.thing, verdict.answer) == (thing, answer)


def test_filter_shows_each_picture_once_and_keeps_the_answers(bank, model):
    done = filtered(bank, model, [GLASS, POT])
    assert done == {'meshes': 2, 'asked': 2, 'transparent': 1, 'reflective': 1, 'neither': 0,
                    'unclear': 0, 'problems': []}
    path, _, body = model.asked[0]
    assert (path, body['model']) == ('/v1/chat/completions', 'tiny-vl')
    image, text = body['messages'][0]['content']
    shown = base64.b64decode(image['image_url']['url'].removeprefix('data:image/png;base64,'))
    assert shown == picture_of(bank, 'glass.obj').read_bytes()
    assert text['text'] == QUESTION
    stored = json.loads((bank / 'assets.json').read_text())
    assert stored['model'] == 'tiny-vl' and stored['question'] == QUESTION
    first = stored['assets'][0]
    assert (first['file'], first['thing'], first['answer']) == ('glass.obj', 'wine glass', GLASS)
    assert (bank / first['thumbnail']).read_bytes() == shown
    assert bank_index.judged(bank) == {'glass.obj': ('transparent',), 'pot.obj': ('reflective',)}


def test_filter_asks_again_only_about_what_is_new_changed_or_unclear(bank, model):
    filtered(bank, model, [GLASS, 'no idea'])
    assert bank_index.judged(bank) == {'glass.obj': ('transparent',)}
    assert filtered(bank, model, [POT])['asked'] == 1
    assert filtered(bank, model, [])['asked'] == 0
    add_mesh(bank, 'glass.obj', 5)
    add_mesh(bank, 'new.obj', 6)
    assert filtered(bank, model, [POT, GLASS])['asked'] == 2
    assert bank_index.judged(bank)['glass.obj'] == ('reflective',)
    (bank / 'new.obj').unlink()
    assert filtered(bank, model, [])['meshes'] == 2
    model.answers += [GLASS, GLASS]
    other = assets.run_filter(bank, judge_at(model.url, 'other-vl'), 'other-vl')
    assert (other['asked'], other['transparent']) == (2, 2)


def test_what_was_answered_before_the_endpoint_failed_is_kept(bank, model):
    model.answers.append(GLASS)
    with pytest.raises(RunError, match='does not answer'):
        assets.run_filter(bank, judge_at(model.url), 'tiny-vl')
    assert bank_index.judged(bank) == {'glass.obj': ('transparent',)}
    assert filtered(bank, model, [POT])['asked'] == 1


def test_an_endpoint_that_fails_is_one_sentence_with_the_reason(bank, model):
    picture = picture_of(bank, 'pot.obj')
    model.status = 404
    with pytest.raises(RunError, match='404.*--endpoint'):
        EndpointJudge(model.url, 'tiny-vl', 5.0)(picture)
    model.status, model.raw = 200, '<html>hello</html>'
    with pytest.raises(RunError, match='no chat completion'):
        EndpointJudge(model.url + '/chat/completions', 'tiny-vl', 5.0)(picture)
    assert model.asked[-1][0] == '/v1/chat/completions'
    with socket.socket() as unused:  # bound, and nobody listens
        unused.bind(('127.0.0.1', 0))
        with pytest.raises(RunError, match='refused'):
            EndpointJudge(f'http://127.0.0.1:{unused.getsockname()[1]}', 'x', 5.0)(picture)
    with pytest.raises(UserError, match="'localhost:8000'.*http://"):
        EndpointJudge('localhost:8000', 'tiny-vl', 5.0)


def test_a_key_is_sent_where_there_is_one(bank, model, monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', 'secret')
    model.answers.append(GLASS)
    EndpointJudge(model.url, 'tiny-vl', 5.0)(picture_of(bank, 'pot.obj'))
    assert model.asked[0][1]['Authorization'] == 'Bearer secret'


def test_the_command_filters_a_bank(bank, model):
    model.answers += [GLASS, POT]
    result = CliRunner().invoke(cli.app, ['assets', 'filter', str(bank), '--endpoint', model.url])
    assert result.exit_code == 0
    assert '2 meshes, 2 asked, 1 transparent, 1 reflective' in result.output
    model.status = 500
    (bank / 'assets.json').unlink()
    result = CliRunner().invoke(cli.app, ['assets', 'filter', str(bank), '--endpoint', model.url])
    assert result.exit_code == 1 and result.output.strip().splitlines()[-1].startswith('dkt: ')


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match='Qwen2.5-VL'):
        LocalJudge(tmp_path)


class FakeTransformers(types.ModuleType):
    """What LocalJudge uses of transformers, with five tokens of question and two of answer."""

    def __init__(self):
        super().__init__('transformers')
        self.AutoProcessor = self.AutoModelForImageTextToText = self
        self.device, self.loaded, self.messages = torch.device('cpu'), [], None

    def from_pretrained(self, folder, local_files_only, **options):
        assert local_files_only
        self.loaded.append(folder)
        return self

    def to(self, device):
        return self

    def eval(self):
        return self

    def apply_chat_template(self, messages, **options):
        assert options['return_dict'] and options['add_generation_prompt']
        self.messages = messages
        return BatchEncoding(input_ids=torch.arange(5)[None])

    def generate(self, input_ids, max_new_tokens, do_sample):
        assert not do_sample
        return torch.cat([input_ids, torch.tensor([[70, 71]])], dim=1)

    def batch_decode(self, tokens, skip_special_tokens):
        return [f'{row.tolist()}' for row in tokens]


class BatchEncoding(dict):
    def to(self, device):
        return self


def test_a_local_model_sees_the_picture_and_only_its_answer_is_read(tmp_path, monkeypatch):
    (tmp_path / 'config.json').write_text('{}')
    fake = FakeTransformers()
    monkeypatch.setitem(sys.modules, 'transformers', fake)
    judge = LocalJudge(tmp_path, 'cpu')
    assert judge(tmp_path / 'a.png') == '[70, 71]'
    image, text = fake.messages[0]['content']
    assert image == {'type': 'image', 'path': str(tmp_path / 'a.png')}
    assert text['text'] == QUESTION and fake.loaded == [tmp_path, tmp_path]


def test_a_local_model_without_transformers_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / 'config.json').write_text('{}')
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(UserError, match='transformers.*--endpoint'):
        LocalJudge(tmp_path, 'cpu')


def test_a_bank_without_meshes_or_with_wrong_sizes_is_refused(tmp_path):
    with pytest.raises(UserError, match='holds no mesh.*\\.glb'):
        assets.run_filter(tmp_path, judge_at('http://x'), 'm')
    with pytest.raises(UserError, match='is not a folder'):
        assets.run_filter(tmp_path / 'none', judge_at('http://x'), 'm')
    for text, reason in (('[1]', 'no table'), ('{"a.obj": "wide"}', 'no table'),
                         ('{"a.obj": 140}', '140.0 m')):
        (tmp_path / 'sizes.json').write_text(text)
        with pytest.raises(ValueError, match=reason):
            bank_index.sizes(tmp_path)


def test_a_foreign_assets_json_is_not_overwritten(bank, model):
    (bank / 'assets.json').write_text('{"mine": 1}')
    with pytest.raises(UserError, match='move it away'):
        filtered(bank, model, [GLASS, POT])
    assert (bank / 'assets.json').read_text() == '{"mine": 1}'


def test_the_hash_of_a_gltf_covers_its_buffers(tmp_path):
    path = tmp_path / 'a.gltf'
    path.write_text(json.dumps({'buffers': [{'uri': 'a.bin'}, {'uri': 'data:,x'}]}))
    hashes = set()
    for content in (b'1', b'2'):
        (tmp_path / 'a.bin').write_bytes(content)
        hashes.add(bank_index.digest(path))
    assert len(hashes) == 2


@pytest.fixture(scope='module')
def interpreter():
    try:
        return find_interpreter()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='module')
def blender(interpreter, tmp_path_factory):
    """What one run of bpy found: every material built, and a bank of all formats read."""
    script = Path(__file__).with_name('render_in_blender.py')
    done = subprocess.run([str(interpreter), str(script), str(assets.SHEET.parent),
                           str(tmp_path_factory.mktemp('bank'))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_every_material_becomes_a_cycles_material_of_its_class(blender):
    for name, spec in {**material_table.LIBRARY, **material_table.LIQUIDS}.items():
        found = blender['materials'][name]
        assert found['surface']
        assert found['class'] == found['pass_index'] == spec.material_class
        absorbs = spec.kind == 'dielectric' and np.max(spec.absorption) > 0
        assert found['volume'] == absorbs
        assert ('BUMP' in found['nodes']) == (spec.bump_m[1] > 0)
        assert ('TANGENT' in found['nodes']) == (spec.anisotropy[1] > 0)


def test_no_surface_shows_a_color_that_nobody_chose(blender):
    assert blender['untouched_ramps'] == []


def test_no_number_of_threads_means_all_cores(blender):
    assert blender['threads'] == ['AUTO', ['FIXED', 3]]


def test_a_bank_of_every_format_stands_on_the_origin_at_its_own_size(blender):
    assert set(blender['bank']) == {'a.glb', 'b.gltf', 'c.obj', 'd.ply', 'e.blend',
                                    'deep/huge.obj'}
    for name, found in blender['bank'].items():
        low, high = np.array(found['low']), np.array(found['high'])
        np.testing.assert_allclose((low + high)[:2], 0.0, atol=1e-4)
        assert low[2] == pytest.approx(0.0, abs=1e-6)
        wanted = {'d.ply': 0.12, 'deep/huge.obj': None}.get(name, 0.3)
        assert wanted is None or np.max(high - low) == pytest.approx(wanted, rel=1e-4)
    assert found['closed'] == (found['faces'] != 7)
    assert blender['bank']['a.glb']['closed'] and not blender['bank']['deep/huge.obj']['closed']
    huge = blender['bank']['deep/huge.obj']
    assert 0.05 <= np.max(np.subtract(huge['high'], huge['low'])) <= 0.4


def test_unreadable_meshes_are_named_and_skipped_and_the_rest_is_cached(blender):
    assert sorted(problem.split()[0] for problem in blender['problems']) == [
        'broken.glb', 'empty.obj']
    assert blender['cached'] == 6 and not blender['read_again']


def test_filter_draws_the_pictures_it_shows(interpreter, tmp_path, monkeypatch):
    monkeypatch.setenv('DKT_CACHE', str(tmp_path / 'cache'))
    bank = tmp_path / 'bank'
    bank.mkdir()
    (bank / 'cube.obj').write_text(CUBE)
    (bank / 'broken.ply').write_text('not a mesh')
    shown = []

    def judge(picture):
        shown.append(cv2.imread(str(picture)))
        return POT

    config = AssetsConfig(tile_px=48, samples=2, threads=1, interpreter=str(interpreter))
    done = assets.run_filter(bank, lambda: judge, 'm', tmp_path / 'out', config)
    assert (done['asked'], done['reflective']) == (1, 1)
    assert [problem.split()[0] for problem in done['problems']] == ['broken.ply']
    assert shown[0].shape == (48, 48, 3)
    grey, border = shown[0][18:30, 18:30].mean(), shown[0][:3].std()
    assert 20 < grey < 240 and border < 80
    assert bank_index.judged(tmp_path / 'out') == {'cube.obj': ('reflective',)}

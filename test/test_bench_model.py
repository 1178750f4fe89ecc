"""The times, floors and counts of a model; a plot of its stages."""
import io

import cv2
import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from rich.console import Console
from tiny_decoder_files import published, written
from toy_model import randn, toy_pipeline
from typer.testing import CliRunner

from dkt_ros.bench_config import SHAPES, BenchModelConfig
from dkt_ros.cli import app
from dkt_ros.config import PRESETS
from dkt_ros.errors import UserError
from dkt_ros.model import random_weights
from dkt_ros.model.beside import attach_normals
from dkt_ros.model.execution import prepare
from dkt_ros.model.pipeline import DKTPipeline
from dkt_ros.model.prompt import PromptRows
from dkt_ros.model.windows import WindowShape
from dkt_ros.tools.bench_model import (
    STAGES,
    _table,
    matmul_speed,
    measure,
    run_bench_model,
    seconds_of,
)
from dkt_ros.tools.bench_reference import compare_folded, reference_step, seconds_in_turn
from dkt_ros.tools.bench_stages import (
    Plan,
    branches,
    compare_overlap,
    count_work,
    past_bytes,
    stage_calls,
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_the_shapes_are_those_that_can_be_drawn():
    assert tuple(random_weights.TRANSFORMERS) == SHAPES


def test_a_frame_costs_what_its_stages_cost():
    pipeline = prepare(toy_pipeline())
    one, three = measure(pipeline, (48, 32), 'balanced', [1, 3], 1, 1e11)
    for row, steps in ((one, 1), (three, 3)):
        assert row['steps'] == steps
        assert set(row['stage_ms']) == set(STAGES)
        assert row['ms_per_frame'] == pytest.approx(sum(row['stage_ms'].values()))
        # a window of eight frames: the oldest waits for seven and for the computation
        assert row['age_ms'] == pytest.approx(7e3 / 30 + 8 * row['ms_per_frame'])
    assert three['stage_ms']['dit'] == pytest.approx(3 * one['stage_ms']['dit'])
    assert three['stage_ms']['encode'] == one['stage_ms']['encode']
    work = count_work(pipeline, Plan(WindowShape(*PRESETS['balanced']), 32, 48))
    assert one['floor_ms'] == pytest.approx(
        1e3 * (2 * work['encode'] + work['dit'] + 2 * work['decode']) / 1e11 / 8)


def test_work_grows_with_the_size():
    pipeline = prepare(toy_pipeline())
    small, large = (count_work(pipeline, Plan(WindowShape(1, 0), *size))
                    for size in ((16, 24), (32, 48)))
    assert large['encode'] / small['encode'] == pytest.approx(4.0, rel=0.1)
    assert large['decode'] / small['decode'] == pytest.approx(4.0, rel=0.1)
    assert 4.0 < large['dit'] / small['dit'] < 16.0


@pytest.mark.parametrize('preset', ['low_latency', 'balanced', 'long'])
def test_a_cache_saves_the_work_of_the_overlap(preset):
    pipeline, window = prepare(toy_pipeline()), WindowShape(*PRESETS[preset])
    whole, cached = (count_work(pipeline, Plan(window, 32, 48, overlap))
                     for overlap in ('recompute', 'cache'))
    assert cached['encode'] == whole['encode']
    assert cached['decode'] == whole['decode']
    # the last layer leaves the overlap out anyway; of two layers, half of its work is saved
    share = cached['dit'] / whole['dit']
    assert window.new_latents / window.window_latents < share < 1.0


def test_each_step_has_keys_of_its_own():
    pipeline, plan = prepare(toy_pipeline()), Plan(WindowShape(3, 1), 32, 48, 'cache')
    one, two = measure(pipeline, (48, 32), 'balanced', [1, 2], 1, 1e11, 'cache')
    work = count_work(pipeline, plan)
    assert one['floor_stage_ms']['dit'] == pytest.approx(
        1e3 * work['dit'] / 1e11 / 8)
    assert two['floor_stage_ms']['dit'] == pytest.approx(1e3 * 2 * work['dit'] / 1e11 / 8)
    # two layers, keys and values, 4 x 6 tokens, 24 channels, float32
    assert past_bytes(pipeline, plan) == 2 * 2 * 24 * 24 * 4
    assert two['past_mb'] == pytest.approx(2 * one['past_mb'])
    assert set(one['stage_ms']) == set(STAGES)
    assert measure(pipeline, (24, 16), 'faithful', [1], 1, 1e11, 'cache')[0]['overlap'] == \
        'recompute'


def test_a_model_for_normals_is_timed_beside():
    alone, pair = prepare(toy_pipeline()), attach_normals(prepare(toy_pipeline()),
                                                          prepare(toy_pipeline()))
    plan = Plan(WindowShape(3, 1), 32, 48)
    work, both = count_work(alone, plan), count_work(pair, plan)
    assert both['encode'] == work['encode']
    assert both['dit'] == pytest.approx(2 * work['dit'])
    assert both['decode'] == pytest.approx(2 * work['decode'])
    calls, seen = stage_calls(branches(pair), plan), []
    pair.vae.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    for name in STAGES:
        calls[name]()
    assert seen == [2]


def test_the_faithful_window_has_no_age():
    row = measure(prepare(toy_pipeline()), (24, 16), 'faithful', [1], 1, 1e11)[0]
    assert row['age_ms'] is None


def test_the_reference_is_the_network_unfolded():
    pipeline = toy_pipeline()
    before = pipeline.transformer.rope.freqs_cos
    assert reference_step(pipeline, (24, 16), 1) > 0
    assert pipeline.transformer.rope.freqs_cos is before


def test_folding_is_counted_and_timed_beside_the_whole_network():
    plain = toy_pipeline()
    torch.manual_seed(0)
    network = WanTransformer3DModel.from_config(plain.transformer.config, image_dim=10,
                                                added_kv_proj_dim=24)
    rows = PromptRows.from_rows({'depth': randn(1, 2, 6)}, 512)
    pipeline = DKTPipeline(network, plain.vae, plain.scheduler, rows)
    found = compare_folded(pipeline, (48, 32), 3, 3)
    assert found['window_latents'] == 3
    (before, after), times = found['tflop'], found['step_ms']
    # 769 tokens of context against 3 keys, seen by 72 tokens
    assert after < 0.5 * before
    assert found['ratio'] < 1.0
    assert min(times) > 0
    assert pipeline.transformer is network


def test_recompute_and_cache_are_timed_in_turn():
    found = compare_overlap(toy_pipeline(), (48, 32), WindowShape(3, 1), 2)
    (recompute, cache), times = found['tflop'], found['step_ms']
    assert recompute > cache > 0
    assert found['ratio'] > 0
    assert len(times) == 2
    assert min(times) > 0


def test_calls_are_timed_in_turn():
    order = []
    times = seconds_in_turn([lambda: order.append('a'), lambda: order.append('b')],
                            torch.device('cpu'), 2)
    assert order == ['a', 'b'] * 3
    assert [len(found) for found in times] == [2, 2]


def test_random_weights_have_the_released_shape(monkeypatch):
    small = {**random_weights.TRANSFORMERS['1.3b'], 'num_attention_heads': 1, 'ffn_dim': 64,
             'added_kv_proj_dim': 128, 'text_dim': 8}
    monkeypatch.setitem(random_weights.TRANSFORMERS, '1.3b', small)
    pipeline = random_weights.random_pipeline('1.3b', layers=1, dtype=torch.bfloat16)
    assert pipeline.transformer.dtype == pipeline.vae.dtype == torch.bfloat16
    assert len(pipeline.transformer.blocks) == 1
    assert pipeline.vae.config.base_dim == 96
    velocity = pipeline.folded().velocity(torch.randn(1, 16, 2, 4, 6), ('depth',))(
        torch.randn(1, 16, 2, 4, 6), torch.tensor(1000.0))
    assert velocity.isfinite().all()
    assert 0.05 < velocity.std() < 20


def test_matrix_speed_is_that_of_this_century():
    assert 1e8 < matmul_speed('cpu', torch.float32) < 1e15


def test_the_median_counts_and_the_first_call_does_not(monkeypatch):
    clock = iter([0.0, 9.0, 10.0, 11.0, 20.0, 22.0, 30.0, 35.0])
    monkeypatch.setattr('dkt_ros.tools.bench_reference.time.perf_counter', lambda: next(clock))
    assert seconds_of(lambda: None, torch.device('cpu'), 3) == 2.0


def test_a_run_leaves_table_figures_and_plot(tmp_path):
    output = io.StringIO()
    config = BenchModelConfig(sizes='32x32', presets='image,faithful', steps='1', repeats=1,
                              device='cpu', precision='float32')
    figures = run_bench_model('dkt-tiny', config=config, plot=tmp_path / 'stages.png',
                              console=Console(file=output, width=120))
    assert [row['preset'] for row in figures['rows']] == ['image', 'faithful']
    assert [row['preset'] for row in figures['reference']] == ['reference']
    assert figures['reference'][0]['ratio'] > 0
    assert [row['preset'] for row in figures['fold']] == ['image', 'faithful']
    assert 'million weights' in output.getvalue()
    assert figures['parameters_folded'] < figures['parameters']
    assert 'faithful' in output.getvalue()
    assert cv2.imread(str(tmp_path / 'stages.png')).shape[1] == 900


def test_decoder_cache_and_normals_are_told_and_counted(tmp_path, monkeypatch):
    small = {**random_weights.TRANSFORMERS['1.3b'], 'num_attention_heads': 1, 'ffn_dim': 64,
             'added_kv_proj_dim': 128, 'text_dim': 8}
    for shape in SHAPES:
        monkeypatch.setitem(random_weights.TRANSFORMERS, shape, small)
    monkeypatch.setattr(random_weights, 'AutoencoderKLWan', lambda: AutoencoderKLWan(base_dim=16))
    path = written(tmp_path, published(z=16))
    output = io.StringIO()
    config = BenchModelConfig(sizes='32x32', presets='balanced', steps='3', repeats=1, layers=1,
                              device='cpu', precision='float32', reference=False,
                              overlap='cache', decoder=str(path), normals='14b')
    figures = run_bench_model(shape='1.3b', config=config,
                              console=Console(file=output, width=200))
    assert figures['parameters_normals'] > figures['parameters_decoder'] > 0
    row, = figures['rows']
    assert (row['overlap'], row['steps']) == ('cache', 3)
    told = ' '.join(output.getvalue().split())
    assert 'with normals by 14b; decoder taew.safetensors; overlap in a cache of at most' in told
    plain = count_work(random_weights.random_pipeline('1.3b', 1), Plan(WindowShape(3, 1), 32, 32))
    assert row['floor_stage_ms']['decode'] < 0.1 * 1e3 * 2 * plain['decode'] / (
        1e12 * figures['peak_tflops'] * 8)


def test_float8_is_timed_against_the_speed_of_bfloat16():
    config = BenchModelConfig(sizes='32x32', presets='image', steps='1', repeats=1, device='cpu',
                              precision='float8', reference=False)
    figures = run_bench_model('dkt-tiny', config=config, console=Console(file=io.StringIO()))
    assert figures['dtype'] == 'float8_e4m3fn'
    assert figures['peak_tflops'] > 0
    assert figures['rows'][0]['stage_ms']['dit'] > 0


def test_the_table_is_whole_in_a_log_of_80_columns():
    row = {'size': [832, 480], 'preset': 'reference', 'steps': 5, 'ms_per_frame': 1167.4,
           'stage_ms': dict.fromkeys(STAGES, 123.4), 'floor_ms': 131.8, 'age_ms': 12345.6,
           'peak_gpu_mb': 11190.4}
    output = io.StringIO()
    Console(file=output, width=80).print(_table(
        {'device_name': 'H200', 'dtype': 'bfloat16', 'layers': 30, 'rows': [row],
         'reference': []}))
    assert '…' not in output.getvalue()
    assert '11190' in output.getvalue()


def test_what_folding_is_worth_can_be_asked_alone(monkeypatch):
    monkeypatch.setattr('dkt_ros.tools.bench_model.measure', None)
    output = io.StringIO()
    config = BenchModelConfig(sizes='32x32', presets='balanced', repeats=1, device='cpu',
                              precision='float32', stages=False)
    figures = run_bench_model('dkt-tiny', config=config, console=Console(file=output, width=120))
    assert (figures['rows'], figures['reference'], len(figures['fold'])) == ([], [], 1)
    assert [row['preset'] for row in figures['overlap']] == ['balanced']
    assert 'one step' in output.getvalue()
    assert 'overlap recomputed' in output.getvalue()


@pytest.mark.parametrize(('arguments', 'sentence'), [
    (['--shape', '1.3b'], '--random-weights belong together'),
    ([], 'give either a model or --shape'),
    (['--shape', '7b', '--random-weights'], "shape is '7b'"),
    (['dkt-tiny', '--sizes', 'big'], "a size is 'big'"),
    (['dkt-tiny', '--steps', '0', '--sizes', '64x48'], "steps are '0'"),
    (['dkt-tiny', '--presets', 'fast', '--sizes', '64x48'], "preset is 'fast'"),
])
def test_mistakes_are_told(arguments, sentence):
    result = CliRunner().invoke(app, ['bench', 'model', *arguments, '--device', 'cpu'])
    assert result.exit_code == 2
    assert sentence in ' '.join(result.output.split())


def test_wrong_shape_is_a_user_error():
    with pytest.raises(UserError, match="shape is '7b'"):
        random_weights.random_pipeline('7b')

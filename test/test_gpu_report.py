"""The goals on a GPU, told from the figures of `dkt bench model`."""
import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / 'scripts' / 'gpu_report.py'


@pytest.fixture(scope='module')
def gpu_report():
    if not SCRIPT.is_file():
        pytest.skip('the scripts are not installed')
    spec = importlib.util.spec_from_file_location('gpu_report', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(preset, size, ms, mb, steps=5):
    return {'size': size, 'preset': preset, 'steps': steps, 'ms_per_frame': ms, 'floor_ms': 15.0,
            'stage_ms': {'encode': 2.0, 'dit': ms - 6, 'decode': 3.0, 'rest': 1.0},
            'floor_stage_ms': {'encode': 1.0, 'dit': 10.0, 'decode': 2.0}, 'peak_gpu_mb': mb}


def write(folder, name, rows, device='H200', **settings):
    (folder / f'{name}.json').write_text(json.dumps(
        {'device_name': device, 'rows': rows, 'settings': settings}))


def test_the_fastest_run_decides_and_a_miss_is_explained(gpu_report, tmp_path):
    write(tmp_path, 'eager', [row('faithful', [832, 480], 70.0, 9000),
                              row('balanced', [640, 480], 40.0, 7000),
                              row('balanced', [640, 480], 10.0, 7000, steps=1)])
    write(tmp_path, 'compile', [row('faithful', [832, 480], 55.0, 9000),
                                row('balanced', [640, 480], 30.0, 7000)])
    (tmp_path / 'choices.json').write_text('{}')
    lines = gpu_report.report(tmp_path)
    assert 'at most 60 ms/frame: met, 55.0 ms and 9000 MB by compile on H200' in lines[0]
    assert 'at most 28 ms/frame and 8000 MB: MISSED, 30.0 ms and 7000 MB by compile' in lines[1]
    assert len(lines) == 2 + 4
    assert 'dit 24.0 ms, floor 10.0 (42% of peak)' in lines[3]
    assert lines[3].endswith('most is lost in dit')


def test_too_much_memory_is_a_miss(gpu_report, tmp_path):
    write(tmp_path, 'eager', [row('balanced', [640, 480], 20.0, 9000)])
    assert 'MISSED, 20.0 ms and 9000 MB' in gpu_report.report(tmp_path)[1]


@pytest.mark.parametrize('settings', [{'overlap': 'cache'}, {'decoder': 'taew.safetensors'},
                                      {'precision': 'float8'}])
def test_what_is_not_exact_meets_no_goal(gpu_report, tmp_path, settings):
    write(tmp_path, 'fast', [row('balanced', [640, 480], 10.0, 5000)], **settings)
    lines = gpu_report.report(tmp_path)
    assert lines[1].endswith('not measured on a GPU')
    assert lines[2].startswith('fast (not exact), balanced 640x480: 10.0 ms/frame')
    write(tmp_path, 'exact', [row('balanced', [640, 480], 27.0, 7000)], overlap='recompute')
    assert 'met, 27.0 ms and 7000 MB by exact' in gpu_report.report(tmp_path)[1]


def test_a_cpu_meets_no_goal(gpu_report, tmp_path):
    write(tmp_path, 'eager', [row('balanced', [640, 480], 20.0, None)], device='cpu')
    assert [line.endswith('not measured on a GPU') for line in gpu_report.report(tmp_path)] == [
        True, True, False]

"""Rendering at size, with a stub for Blender: kills, full disks, shards, estimates, farms."""
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from dkt_ros.config import RenderConfig
from dkt_ros.data.scenes import open_scene
from dkt_ros.errors import RunError, UserError
from dkt_ros.tools.render import assemble, bench, compare, estimate, farm, run
from dkt_ros.tools.scenes import run_check

STUB = Path(__file__).with_name('stub_render_worker.py')
CONFIG = RenderConfig(width=48, height=36, num_frames=2, workers=1)
DRIVER = """
import sys
from pathlib import Path
from dkt_ros.config import RenderConfig
from dkt_ros.tools.render import run
run.WORKER, run.find_interpreter = Path(sys.argv[2]), lambda given: Path(sys.executable)
run.run_render(sys.argv[1], 8, 40, RenderConfig(width=48, height=36, num_frames=2, workers=1))
"""


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(run, 'WORKER', STUB)
    for module in (run, estimate):
        monkeypatch.setattr(module, 'find_interpreter', lambda given: Path(sys.executable))


def digests(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.glob('scene_*/**/*')) if path.is_file()}


def test_killed_five_times_it_makes_the_same_scenes(tmp_path, stub):
    environment = {**os.environ, 'STUB_SECONDS': '0.12', 'OMP_NUM_THREADS': '1',
                   'PYTHONPATH': str(Path(run.__file__).parents[3])}
    run.run_render(tmp_path / 'calm', 8, 40, CONFIG)
    killed = tmp_path / 'killed'
    command = [sys.executable, '-c', DRIVER, str(killed), str(STUB)]
    counts = []
    for number in range(5):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        started = time.monotonic()
        while process.poll() is None and len(list(killed.glob('scene_*'))) <= number \
                and time.monotonic() - started < 20:
            time.sleep(0.02)
        process.kill()
        process.wait()
        counts.append(len(list(killed.glob('scene_*/scene.json'))))
    assert 0 < counts[0] < 8
    done = run.run_render(killed, 8, 40, CONFIG)
    assert done['rendered'] + done['skipped'] == 8 and done['skipped'] == counts[-1]
    assert digests(killed) == digests(tmp_path / 'calm')
    assert {path.name for path in killed.iterdir()} == {
        'manifest.json', *(assemble.scene_name(s) for s in range(40, 48))}


def test_shards_share_the_scenes_without_overlap(tmp_path, stub):
    for index in range(2):
        run.run_render(tmp_path / 'shards', 3, 42, CONFIG, (index, 2))
    run.run_render(tmp_path / 'whole', 3, 42, CONFIG)
    assert digests(tmp_path / 'shards') == digests(tmp_path / 'whole')


def test_the_remains_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, '-c', ''])
    dead.wait()
    gone = [tmp_path / f'{run.work_prefix(dead.pid)}abc',
            tmp_path / f'.scene_00000001.partial-{dead.pid}']
    kept = [tmp_path / f'{run.work_prefix(os.getpid())}abc',
            tmp_path / f'.scene_00000002.partial-{os.getpid()}', tmp_path / '.render-other-1-abc']
    for path in gone + kept:
        path.mkdir()
    run.clear_remains(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_folder_that_an_ending_worker_still_writes_to_goes_too(tmp_path, monkeypatch):
    dead = subprocess.Popen([sys.executable, '-c', ''])
    dead.wait()
    folder, remove, late = tmp_path / f'{run.work_prefix(dead.pid)}abc', shutil.rmtree, [1, 2, 3]
    folder.mkdir()

    def write_meanwhile(path, **options):
        remove(path, **options)
        if late:
            path.mkdir()
            (path / f'{late.pop()}.exr').touch()

    monkeypatch.setattr(run.shutil, 'rmtree', write_meanwhile)
    run.clear_remains(tmp_path)
    assert not late and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells a process so')
def test_a_worker_ends_with_the_one_that_started_it():
    worker = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'
    starter = ('import subprocess, sys\n'
               'from dkt_ros.tools.processes import end_with_parent\n'
               'subprocess.Popen([sys.executable, "-c", sys.argv[1]],\n'
               '                 preexec_fn=end_with_parent()).wait()\n')
    process = subprocess.Popen([sys.executable, '-c', starter, worker], stdout=subprocess.PIPE,
                               text=True)
    pid = int(process.stdout.readline())
    assert psutil.pid_exists(pid)
    process.kill()
    process.wait()
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_too_little_disk_is_told_before_anything_is_drawn(tmp_path, stub, monkeypatch):
    usage = namedtuple('usage', 'total used free')(10, 10, 1000)
    monkeypatch.setattr(run.shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(RunError, match='MB free, and 3 scenes'):
        run.run_render(tmp_path, 3, 40, CONFIG)
    assert list(tmp_path.glob('*scene*')) == []


def test_a_disk_that_fills_up_leaves_whole_scenes_only(tmp_path, stub, monkeypatch):
    written = []
    real = assemble.write_scene

    def write(path, **values):
        if written:
            frames = iter(values.pop('frames'))

            def until_full():
                yield next(frames)
                raise OSError(errno.ENOSPC, 'No space left on device')
            return real(path, frames=until_full(), **values)
        written.append(path)
        return real(path, **values)

    monkeypatch.setattr(assemble, 'write_scene', write)
    with pytest.raises(RunError, match='is full'):
        run.run_render(tmp_path, 4, 42, CONFIG)
    assert [path for path in tmp_path.iterdir() if path.name.startswith('.')] == []
    scene, = tmp_path.glob('scene_*')
    assert len(open_scene(scene)) == 2 and run_check(scene)['num_scenes'] == 1


def test_a_worker_that_stops_is_told_with_its_last_words_or_the_full_disk(tmp_path, monkeypatch):
    script = tmp_path / 'worker.py'
    script.write_text('raise SystemExit("no such light")')
    monkeypatch.setattr(run, 'WORKER', script)
    specs = [run.scene_spec(0, 0, CONFIG)]
    with pytest.raises(RunError, match='code 1: no such light'):
        list(run.rendered_records(specs, tmp_path, Path(sys.executable), 1))
    # What the worker had to say did not fit there either.
    usage = namedtuple('usage', 'total used free')(10, 10, 1000)
    monkeypatch.setattr(run.shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(RunError, match='is full'):
        list(run.rendered_records(specs, tmp_path, Path(sys.executable), 1))


def test_a_scene_that_never_succeeds_is_named(tmp_path, stub, monkeypatch):
    monkeypatch.setattr(run, 'accept_scene', lambda *_: False)
    monkeypatch.setattr(run, 'MAX_ATTEMPTS', 2)
    with pytest.raises(UserError, match='scene 42 shows less than'):
        run.run_render(tmp_path, 1, 42, CONFIG)


def test_an_estimate_adds_up_what_was_measured():
    parts = {'start': 10.0, 'build': 2.0, 'frame': 1.0, 'pair': 5.0, 'write': 0.5}
    slow = {key: 3 * value for key, value in parts.items()}
    measured = {**slow, 'processor': parts, 'device': 'CPU', 'frame_bytes': 1e6,
                'scene_bytes': 2e6}
    config = RenderConfig.from_dict({'num_frames': 10, 'workers': 4, 'cost_per_hour': 3.6,
                                     'sensor': {'kind': 'stereo'}})
    figures = estimate.estimate(100, config, measured)
    core_seconds = 100 * (2 + 10 * 1.5 + 5) + 40
    assert figures['core_hours'] * 3600 == pytest.approx(core_seconds)
    assert figures['hours'] * 3600 == pytest.approx(core_seconds / 4)
    assert figures['gigabytes'] == pytest.approx(100 * (10 * 1e6 + 2e6) / 1e9)
    assert figures['cost'] == pytest.approx(core_seconds / 1000)
    # The processor waits for a GPU: there the clock counts.
    figures = estimate.estimate(100, config, {**measured, 'device': 'CUDA'})
    assert figures['core_hours'] * 3600 == pytest.approx(3 * core_seconds)


def test_an_estimate_measures_a_scene_and_leaves_nothing(stub, tmp_path, monkeypatch):
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    figures = estimate.estimate(50, CONFIG)
    assert figures['num_frames'] == 100 and figures['gigabytes'] > 0
    assert figures['measured']['frame'] == pytest.approx(0.25)
    assert figures['measured']['processor']['frame'] == pytest.approx(0.2)
    # Seed 1 of the stub fails at the first attempt.
    assert estimate.measure_scene(CONFIG, 1)['build'] == 1.0
    assert estimate.estimate_table(figures).row_count == 1


def test_the_bench_shares_the_scene_over_its_frames():
    parts = {'build': 2.0, 'frame': 1.0, 'pair': 4.0, 'write': 0.5, 'start': 12.0}
    config = RenderConfig.from_dict({'num_frames': 4, 'sensor': {'kind': 'stereo'}})
    row = bench._row(config, {**{k: 2 * v for k, v in parts.items()}, 'processor': parts})
    assert row['processor_per_frame'] == pytest.approx((2 + 4 * 1.5 + 4) / 4)
    assert row['seconds_per_frame'] == pytest.approx(2 * row['processor_per_frame'])
    assert row['anew'] - row['processor_per_frame'] == pytest.approx(12 / 4)
    table = bench.bench_table({'rows': [row], 'num_frames': 4, 'samples': 8, 'preset': 'p'})
    assert table.row_count == 1


def test_the_same_scenes_are_compared_in_three_ways(stub, monkeypatch):
    started = []
    real = run.rendered_records

    def recorded(specs, *rest):
        started.append([(spec['scene_seed'], spec['thrifty']) for spec in specs])
        return real(specs, *rest)

    monkeypatch.setattr(compare, 'rendered_records', recorded)
    monkeypatch.setattr(compare, 'find_interpreter', lambda given: Path(sys.executable))
    figures = compare.run_compare([(48, 36)], 2, CONFIG, seed=42)
    # One process for both scenes, then one each, last without what saves time.
    assert started == [[(42, True), (43, True)], [(42, True)], [(43, True)],
                       [(42, False)], [(43, False)]]
    assert [row['way'] for row in figures['rows']] == list(compare.WAYS)
    assert all(row['processor'] > 0 and row['seconds'] > 0 for row in figures['rows'])
    # Two interpreters cost more than one.
    assert figures['rows'][1]['processor'] > figures['rows'][0]['processor']
    times = [{'width': 4, 'height': 3, 'way': way, 'seconds': 2.0 * k, 'processor': 3.0 * k}
             for k, way in enumerate(compare.WAYS, 1)]
    table = compare.compare_table({**figures, 'rows': times})
    assert list(table.columns[3].cells) == ['3.00 (1.00x)', '6.00 (2.00x)', '9.00 (3.00x)']


def test_a_farm_needs_ray(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(UserError, match=r'dkt_ros\[farm\]'):
        farm.run_farm('auto', tmp_path, 2, 0, CONFIG)


def test_a_farm_renders_every_scene_once(monkeypatch, tmp_path, stub):
    class Ray:
        @staticmethod
        def init(address, ignore_reinit_error):
            assert address == 'here:6379'

        @staticmethod
        def cluster_resources():
            return {'CPU': 1.0}

        @staticmethod
        def remote(**_):
            def wrap(function):
                return type('Remote', (), {'remote': staticmethod(function)})
            return wrap

        @staticmethod
        def get(results):
            return results

    monkeypatch.setitem(sys.modules, 'ray', Ray)
    monkeypatch.setattr(farm, 'TASKS_A_CORE', 2)
    counts = farm.run_farm('here:6379', tmp_path, 4, 40, CONFIG)
    assert counts == {'rendered': 4, 'skipped': 0, 'rejected': 1}
    assert len(list(tmp_path.glob('scene_*'))) == 4

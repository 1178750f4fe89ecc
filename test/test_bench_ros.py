import pytest

pytest.importorskip('rclpy')

from rich.console import Console  # noqa: E402
from ros_graph import REPOSITORY  # noqa: E402

from dkt_ros.errors import UserError  # noqa: E402
from dkt_ros.nodes.bench import run_bench_ros  # noqa: E402

pytestmark = pytest.mark.ros


def test_it_measures_every_stage_with_and_without_normals(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(REPOSITORY))
    console = Console(record=True, width=160)
    result = run_bench_ros(sizes=((64, 48),), num_frames=10, console=console)
    entry = result['sizes']['64x48']
    assert entry['goal_ms'] is None
    for cloud in ('points', 'points_with_normals'):
        assert entry[cloud]['frames'] >= 8
        for figure in ('ros_ms', 'cpu_ms', 'round_trip_ms'):
            assert entry[cloud][figure]['p95'] >= entry[cloud][figure]['p50'] > 0
        assert set(entry[cloud]['stages_ms']) == {'pair', 'decode', 'publish'}
    assert '64x48' in console.export_text()


def test_too_few_frames_are_refused():
    with pytest.raises(UserError, match='num_frames is 3; allowed: 10 to 250'):
        run_bench_ros(num_frames=3)

"""Children end with their parent, and their failure is told with their last words."""
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from dkt_ros.tools import processes
from dkt_ros.tools.processes import ChildError, Children


@pytest.fixture
def modules(tmp_path):
    (tmp_path / 'sleeper.py').write_text(
        'import subprocess, sys, time\n'
        'grandchild = subprocess.Popen(["sleep", "60"])\n'
        'print("asleep", grandchild.pid, flush=True)\ntime.sleep(60)\n')
    (tmp_path / 'stubborn.py').write_text(
        'import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n'
        'print("here", flush=True)\ntime.sleep(60)\n')
    (tmp_path / 'failing.py').write_text(
        'import sys\nfor i in range(40): print("line", i)\nsys.exit(3)\n')
    return {**os.environ, 'PYTHONPATH': str(tmp_path)}


def wait_for(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, 'waited in vain'
        time.sleep(0.02)


def is_running(pid):
    try:
        return 'Z' not in Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0]
    except OSError:
        return False


def test_all_end_with_the_with(tmp_path, modules, monkeypatch):
    monkeypatch.setattr(processes, 'GRACE_S', 0.3)
    with Children(tmp_path / 'logs', modules) as children:
        children.start('a', 'sleeper')
        children.start('b', 'stubborn')
        wait_for(lambda: 'asleep' in children.log('a') and 'here' in children.log('b'))
        assert children.exit_code('a') is None
        grandchild = int(children.log('a').split()[1])
    assert children.exit_code('a') is not None and children.exit_code('b') is not None
    wait_for(lambda: not is_running(grandchild))


def test_failure_has_the_tail(tmp_path, modules):
    with Children(tmp_path / 'logs', modules) as children:
        children.start('a', 'failing')
        assert children.wait('a', 10) == 3
        error = children.failure('a', 'left with exit code 3')
    assert isinstance(error, ChildError)
    assert 'a left with exit code 3' in str(error) and 'line 39' in str(error)
    assert 'line 20' not in str(error) and str(tmp_path / 'logs' / 'a.log') in str(error)


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs prctl')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_they_end_when_the_parent_is_killed(tmp_path, modules, number):
    script = textwrap.dedent(f"""
        import os, time
        from pathlib import Path
        from dkt_ros.tools import processes
        processes.GRACE_S = 0.3
        with processes.Children(Path({str(tmp_path / 'logs')!r}), os.environ) as children:
            children.start('a', 'stubborn')
            while 'here' not in children.log('a'):
                time.sleep(0.02)
            print(children._processes['a'].pid, flush=True)
            time.sleep(60)
        """)
    environment = {**modules, 'PYTHONPATH': os.pathsep.join(
        [modules['PYTHONPATH'], str(Path(__file__).parents[1])])}
    parent = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE,
                              env=environment)
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.send_signal(number)
    assert parent.wait(20) != 0
    parent.stdout.close()
    wait_for(lambda: not is_running(child))

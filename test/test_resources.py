"""Models, configuration and launch files are found wherever the package is installed."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dkt_ros
from dkt_ros.errors import UserError
from dkt_ros.resources import cache_dir, resolve_model, share_path


@pytest.mark.parametrize(('package', 'share'), [
    ('lib/python3.11/site-packages', 'share/dkt_ros'),      # a wheel, a colcon install space
    ('local/lib/python3.11/dist-packages', 'local/share/dkt_ros'),  # pip as root on Debian
    ('', 'share/dkt_ros'),                                  # pip install --target
    ('', ''),                                               # a checkout
])
def test_share_is_found_from_where_the_package_lies(tmp_path, package, share):
    copy = tmp_path / package / 'dkt_ros'
    copy.mkdir(parents=True)
    for name in ('__init__.py', 'errors.py', 'resources.py'):
        shutil.copy(Path(dkt_ros.__file__).parent / name, copy)
    (tmp_path / share / 'config').mkdir(parents=True)
    (tmp_path / share / 'package.xml').touch()
    (tmp_path / share / 'config' / 'dkt.yaml').touch()
    code = 'from dkt_ros.resources import share_path; print(share_path("config", "dkt.yaml"))'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                            cwd=tmp_path / package, env={'PYTHONPATH': str(tmp_path / package)})
    assert result.stdout.strip() == str(tmp_path / share / 'config' / 'dkt.yaml'), result.stderr


def test_a_sourced_workspace_is_searched_last(tmp_path, monkeypatch):
    (tmp_path / 'share' / 'dkt_ros' / 'models' / 'mine').mkdir(parents=True)
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'/nowhere:{tmp_path}')
    assert resolve_model('mine') == tmp_path / 'share' / 'dkt_ros' / 'models' / 'mine'


def test_what_is_missing_is_named_with_the_folders_searched():
    with pytest.raises(UserError, match=r"'config/none.yaml' does not come .*searched: .*; rein"):
        share_path('config', 'none.yaml')


def test_a_model_is_a_folder_or_a_bundled_name(tmp_path):
    assert resolve_model(tmp_path) == tmp_path
    with pytest.raises(UserError, match="'no-such-model' is neither a folder nor a bundled"):
        resolve_model('no-such-model')
    with pytest.raises(UserError, match="model is ''"):
        resolve_model('')


def test_cache_follows_the_environment(monkeypatch):
    monkeypatch.setenv('DKT_CACHE', '/big/disk')
    assert cache_dir() == Path('/big/disk')
    monkeypatch.delenv('DKT_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', '/caches')
    assert cache_dir() == Path('/caches/dkt_ros')
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', '/home/ann')
    assert cache_dir() == Path('/home/ann/.cache/dkt_ros')

"""The package's own files: metadata, versions, what is installed, what is pinned, sizes."""
import configparser
import importlib.metadata
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from source_tree import files, imports

import dkt_ros

ROOT = Path(__file__).resolve().parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / 'setup.cfg')


def requirement_lines(text):
    return [line for line in text.splitlines() if line.strip() and not line.startswith('#')]


def tracked_files():
    result = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        pytest.skip('not a git checkout')
    return [path for path in map(ROOT.joinpath, result.stdout.split('\0')) if path.is_file()]


def test_package_xml_is_format_3_of_an_ament_python_package():
    root = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert root.tag == 'package' and root.get('format') == '3'
    assert root.findtext('name') == 'dkt_ros' == SETUP['metadata']['name']
    assert root.findtext('export/build_type') == 'ament_python'
    assert root.findtext('license') == SETUP['metadata']['license'] == 'Apache-2.0'
    assert {'rclpy', 'sensor_msgs'} <= {item.text for item in root.findall('exec_depend')}


def test_one_version_everywhere():
    version = dkt_ros.__version__
    assert ElementTree.parse(ROOT / 'package.xml').getroot().findtext('version') == version
    assert SETUP['metadata']['version'] == 'attr: dkt_ros.__version__'
    changes, citation = ((ROOT / f).read_text() for f in ('CHANGELOG.rst', 'CITATION.cff'))
    assert re.search(r'^(\d+\.\d+\.\d+) ', changes, re.MULTILINE)[1] == version
    assert re.search(r'^version: (.*)$', citation, re.MULTILINE)[1] == version


def test_ros_finds_executables_share_and_marker():
    assert SETUP['develop']['script_dir'] == '$base/lib/dkt_ros'
    assert SETUP['install']['install_scripts'] == '$base/lib/dkt_ros'
    assert SETUP['build_scripts']['executable'] == '/usr/bin/env python3'
    assert (ROOT / 'resource' / 'dkt_ros').is_file()
    scripts = requirement_lines(SETUP['options.entry_points']['console_scripts'])
    for script in scripts:
        module = script.split('=')[1].split(':')[0].strip()
        assert (ROOT / (module.replace('.', '/') + '.py')).is_file(), script


@pytest.mark.parametrize('path', [
    'launch/dkt.launch.py', 'launch/grasp.launch.py', 'config/grasp.yaml',
    'config/grippers/panda_hand.yaml', 'config/moveit/sensors_3d.yaml',
    'config/dkt.foxglove.json', 'docs/moveit.md', 'config/dkt.yaml', 'config/fastdds.xml',
    'config/dkt.rviz', 'clips/demo/clip.json', 'models/README.md',
    'models/dkt-tiny/model_index.json', 'models/dkt-tiny/README.md'])
def test_what_users_need_is_there(path):
    assert (ROOT / path).is_file()


def test_every_requirement_and_what_it_needs_is_pinned():
    pins = dict(line.split('==') for line in requirement_lines(
        (ROOT / 'constraints.txt').read_text()))
    pinned = {canonicalize_name(name) for name in pins}
    extras = SETUP['options.extras_require']
    texts = (SETUP['options']['install_requires'], extras['ros'], extras['grasp'], extras['test'])
    todo = [Requirement(line) for text in texts for line in requirement_lines(text)]
    todo = [item for item in todo if item.marker is None or item.marker.evaluate()]
    seen = set()
    while todo:
        name = canonicalize_name(todo.pop().name)
        if name in seen:
            continue
        seen.add(name)
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        todo += [r for r in map(Requirement, needed)
                 if r.marker is None or r.marker.evaluate({'extra': ''})]
    assert seen - pinned == set()


def test_every_library_that_is_imported_is_required():
    owners = importlib.metadata.packages_distributions()
    texts = [SETUP['options']['install_requires'], *SETUP['options.extras_require'].values()]
    required = {canonicalize_name(Requirement(line).name)
                for text in texts for line in requirement_lines(text)}
    imported = {module.split('.')[0] for path in files() if 'worker' not in path.parts
                for module in imports(path)} - sys.stdlib_module_names - {'dkt_ros'}
    assert [name for name in sorted(imported) if name in owners and not required.intersection(
        map(canonicalize_name, owners[name]))] == []


def test_pins_are_plain_released_versions():
    for line in requirement_lines((ROOT / 'constraints.txt').read_text()):
        assert re.fullmatch(r'[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*', line), line


def test_the_repository_stays_small():
    sizes = {path: path.stat().st_size for path in tracked_files()}
    assert [str(path) for path, size in sizes.items() if size > 15e6] == []
    assert sum(sizes.values()) < 35e6

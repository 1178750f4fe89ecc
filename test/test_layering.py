"""Imports point downward: arrays -> networks, data -> stream -> nodes, tools -> verbs -> cli."""
import subprocess
import sys

import pytest
from source_tree import PACKAGE, files, imports, name_of

ROS = {'rclpy', 'builtin_interfaces', 'std_srvs', 'cv_bridge', 'launch', 'launch_ros',
       'message_filters', 'ament_index_python', 'diagnostic_updater', 'sensor_msgs_py'}
NETWORKS = {'torch', 'diffusers', 'transformers', 'peft', 'accelerate', 'safetensors'}
LEVELS = {'arrays': 0, 'model': 1, 'data': 1, 'grasp': 1, 'stream': 2, 'nodes': 3, 'tools': 3,
          'verbs': 4, 'cli': 5}


def room(module):
    """Return the room of `dkt_ros.x.y`: a folder's name, or what the top-level module is."""
    parts = module.split('.')
    if len(parts) == 1:
        return 'arrays'
    if parts[1] in LEVELS:
        return parts[1]
    return 'stream' if parts[1] in ('stream', 'perception') else 'arrays'


def is_ros(module):
    top = module.split('.')[0]
    return top in ROS or top.startswith(('tf2_', 'rclpy')) or top.endswith('_msgs')


def violations(allowed):
    return [f'{name_of(path)} imports {module}' for path in files()
            for module in sorted(imports(path)) if not allowed(name_of(path), module)]


def below(importer, imported):
    if imported.split('.')[0] != 'dkt_ros':
        return True
    own, other = room(importer), room(imported)
    return own == other or LEVELS[other] < LEVELS[own]


def test_imports_point_downward():
    assert violations(below) == []


@pytest.mark.parametrize(('importer', 'imported', 'allowed'), [
    ('dkt_ros.tools.demo', 'dkt_ros.nodes.depth_node', False),
    ('dkt_ros.nodes.depth_node', 'dkt_ros.tools.bench', False),
    ('dkt_ros.camera', 'dkt_ros.stream', False),
    ('dkt_ros.data.clips', 'dkt_ros.model.pipeline', False),
    ('dkt_ros.stream', 'dkt_ros.model.sampler', True),
    ('dkt_ros.cli', 'dkt_ros.nodes.compose', True),
])
def test_the_rule_itself(importer, imported, allowed):
    assert below(importer, imported) is allowed


def test_ros_is_imported_in_nodes_only():
    assert violations(lambda own, other: room(own) == 'nodes' or not is_ros(other)) == []


def test_arrays_and_data_need_no_network_library():
    free = ('arrays', 'data')
    assert violations(lambda own, other: room(own) not in free
                      or other.split('.')[0] not in NETWORKS) == []


def test_bpy_is_imported_in_the_render_worker_only_and_the_worker_imports_nothing_of_ours():
    blender = {'bpy', 'mathutils', 'bmesh'}
    worker = 'dkt_ros.tools.render.worker'
    assert violations(lambda own, other: own.startswith(worker)
                      or other.split('.')[0] not in blender) == []
    assert violations(lambda own, other: not own.startswith(worker)
                      or other.split('.')[0] != 'dkt_ros' or other.startswith(worker)) == []


def import_with_blocked(modules, blocked):
    code = ('import importlib, sys\n'
            'class Block:\n'
            '    def find_spec(self, name, path=None, target=None):\n'
            f'        if name.split(".")[0] in {blocked!r}:\n'
            '            raise ModuleNotFoundError(f"{name} is blocked", name=name)\n'
            'sys.meta_path.insert(0, Block())\n'
            f'for name in {modules!r}: importlib.import_module(name)\n')
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          cwd=PACKAGE.parent)


def test_everything_but_the_nodes_imports_without_ros():
    modules = [name_of(path) for path in files() if room(name_of(path)) != 'nodes'
               and 'worker' not in name_of(path)]
    messages = {f'{name}_msgs' for name in ('std', 'sensor', 'geometry', 'visualization',
                                            'diagnostic', 'lifecycle', 'rosgraph')}
    result = import_with_blocked(modules, ROS | messages)
    assert result.returncode == 0, result.stderr


def test_arrays_data_and_the_command_line_import_without_torch():
    modules = [name_of(path) for path in files() if room(name_of(path)) in ('arrays', 'data')
               or room(name_of(path)) in ('verbs', 'cli')]
    result = import_with_blocked(modules, NETWORKS | ROS)
    assert result.returncode == 0, result.stderr

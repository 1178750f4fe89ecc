import pytest

pytest.importorskip('rclpy')

from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_graph import Graph  # noqa: E402

from dkt_ros.config import DepthNodeConfig  # noqa: E402
from dkt_ros.errors import UserError  # noqa: E402
from dkt_ros.nodes.parameters import NodeParameters, options_of  # noqa: E402
from dkt_ros.options import nest  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture
def node():
    graphs = []

    def make(*overrides):
        arguments = [part for override in overrides for part in ('-p', override)]
        graph = Graph('--ros-args', *arguments) if arguments else Graph()
        graphs.append(graph)
        return graph.add(Node('depth_node', context=graph.context))

    yield make
    for graph in graphs:
        graph.close()


def test_every_option_is_declared_with_its_default_and_description(node):
    node = node()
    config = NodeParameters(node, DepthNodeConfig()).config()
    assert config == DepthNodeConfig()
    for name, option in options_of(DepthNodeConfig()).items():
        assert node.describe_parameter(name).description.startswith(
            option.field.metadata['help'])
    descriptor = node.describe_parameter('points.stride').integer_range[0]
    assert (descriptor.from_value, descriptor.to_value) == (1, 16)
    assert 'low_latency' in node.describe_parameter('stream.preset').additional_constraints


def test_given_values_are_taken_and_whole_numbers_become_floats(node):
    node = node('stream.preset:=image', 'input.slop_s:=1', 'anchor.plane:=[0, 0, 1, 2]')
    config = NodeParameters(node, DepthNodeConfig()).config()
    assert config.stream.preset == 'image'
    assert config.input.slop_s == 1.0
    assert config.anchor.plane == (0.0, 0.0, 1.0, 2.0)
    assert node.get_parameter('stream.preset').value == 'image'


@pytest.mark.parametrize('override, message', [
    ('stream.presset:=image', r"'stream.presset' is unknown.*did you mean 'stream.preset'.*model"),
    ('stream.preset:=huge', r"stream.preset is 'huge'.*'balanced'"),
    ('points.stride:=0', r'points.stride is 0; allowed: 1 to 16'),
    ('autostart:=maybe', r"autostart is 'maybe'.*bool")])
def test_what_is_wrong_is_told_when_the_configuration_is_asked_for(node, override, message):
    parameters = NodeParameters(node(override), DepthNodeConfig())
    with pytest.raises(UserError, match=message):
        parameters.config()


def test_setting_a_wrong_start_value_right_mends_it(node):
    node = node('stream.preset:=huge')
    parameters = NodeParameters(node, DepthNodeConfig(), locked=lambda: False)
    assert node.set_parameters([Parameter('stream.preset', value='long')])[0].successful
    assert parameters.config().stream.preset == 'long'


def test_qos_overrides_and_sim_time_are_nobodys_typo(node):
    node = node('use_sim_time:=false', 'qos_overrides./dkt/depth.publisher.depth:=5')
    NodeParameters(node, DepthNodeConfig()).config()


def test_a_change_that_cannot_be_applied_is_refused_with_the_reason(node):
    node = node()
    changes = []
    NodeParameters(node, DepthNodeConfig(), changed=changes.append)
    result = node.set_parameters([Parameter('model', value='other')])[0]
    assert not result.successful
    assert 'model cannot change in a running node' in result.reason
    result = node.set_parameters([Parameter('anchor.source', value='magic')])[0]
    assert not result.successful and "'sensor'" in result.reason
    assert changes == []


def test_a_change_that_can_be_applied_is_handed_on(node):
    node = node()
    changes = []
    NodeParameters(node, DepthNodeConfig(), changed=changes.append)
    assert node.set_parameters([Parameter('points.stride', value=4)])[0].successful
    assert changes[0].points.stride == 4


def test_nest():
    assert nest({'a.b.c': 1, 'a.d': 2, 'e': 3}) == {'a': {'b': {'c': 1}, 'd': 2}, 'e': 3}

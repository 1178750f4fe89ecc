"""The gripper, the grasp frame and its symmetry, and the frames of other projects."""
import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from dkt_ros.errors import UserError
from dkt_ros.grasp import conventions
from dkt_ros.grasp.grasp import (
    HALF_TURN,
    Grasp,
    canonical,
    load_gripper,
    turn_between,
)
from dkt_ros.resources import share_path

GRIPPERS = sorted(path.stem for path in share_path('config', 'grippers').glob('*.yaml'))
PANDA = load_gripper('panda_hand')


def random_poses(number=20):
    rng = np.random.default_rng(3)
    poses = np.tile(np.eye(4), (number, 1, 1))
    poses[:, :3, :3] = Rotation.random(number, rng=rng).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(number, 3))
    return poses


def down(x=0.1, y=0.2, z=0.3):
    """Approach along -z of the world, closing along its y."""
    return np.array([[-1.0, 0, 0, x], [0, 1, 0, y], [0, 0, -1, z], [0, 0, 0, 1]])


@pytest.mark.parametrize('name', GRIPPERS)
def test_every_gripper_is_whole(name):
    gripper = load_gripper(name)
    assert gripper.name == name
    left, right, palm = gripper.boxes(gripper.max_width)
    assert left[0][1] == gripper.max_width / 2 == -right[1][1]
    assert left[1][1] - left[0][1] == pytest.approx(gripper.finger_width)
    assert left[1][2] == gripper.tip_length and palm[1][2] == left[0][2] == gripper.palm_z < 0
    assert all((low < high).all() for low, high in (left, right, palm))


def test_the_four_grippers_of_the_package():
    assert set(GRIPPERS) >= {'panda_hand', 'robotiq_2f_85', 'robotiq_2f_140', 'generic'}
    widths = [load_gripper(name).max_width for name in (
        'panda_hand', 'robotiq_2f_85', 'robotiq_2f_140')]
    assert widths == [0.08, 0.085, 0.14]


@pytest.mark.parametrize('key, value, words', [
    ('max_width', -0.08, 'max_width is -0.08; allowed: 0.005 to 0.5'),
    ('max_wdith', 0.08, "did you mean 'max_width'"),
    ('tcp_xyz', [0.0, 0.1], 'three finite numbers'),
    ('tip_length', 0.06, 'between palm and tips'),
    ('finger_depth', 'long', 'float is expected')])
def test_a_wrong_gripper_is_told(tmp_path, key, value, words):
    values = yaml.safe_load(share_path('config', 'grippers', 'panda_hand.yaml').read_text())
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump({**values, key: value}))
    with pytest.raises(UserError, match=words):
        load_gripper(path)


def test_an_unknown_gripper_is_told_with_the_known_ones():
    with pytest.raises(UserError, match='panda_hand.*path of a YAML file'):
        load_gripper('pnada')


def test_joints_follow_the_opening():
    assert PANDA.joint_position(0.08) == 0.04 and PANDA.joint_position(0.03) == 0.015
    robotiq = load_gripper('robotiq_2f_85')
    assert robotiq.joint_position(0.085) == 0.0 and robotiq.joint_position(0.0) == 0.8


def test_the_axes_of_a_grasp():
    grasp = Grasp(down(), 0.05, 0.07, 0.9)
    np.testing.assert_array_equal(grasp.approach, [0, 0, -1])
    np.testing.assert_array_equal(grasp.closing, [0, 1, 0])
    np.testing.assert_allclose(grasp.pregrasp(0.1)[:3, 3], [0.1, 0.2, 0.4])
    np.testing.assert_allclose(Rotation.from_quat(grasp.quaternion).as_matrix(), down()[:3, :3])
    with pytest.raises(ValueError, match='4, 4'):
        Grasp(np.eye(3), 0.05, 0.07, 0.9)


def test_both_turns_of_a_jaw_are_one_grasp():
    rotations = random_poses()[:, :3, :3]
    chosen = canonical(rotations)
    np.testing.assert_allclose(canonical(rotations @ HALF_TURN), chosen, atol=1e-12)
    assert (turn_between(rotations, chosen) < 1e-6).all()
    np.testing.assert_allclose(chosen[:, :, 2], rotations[:, :, 2])
    quarter = rotations @ Rotation.from_euler('z', 90, degrees=True).as_matrix()
    np.testing.assert_allclose(turn_between(rotations, quarter), np.pi / 2, atol=1e-6)


@pytest.mark.parametrize('there, back', [
    (lambda T: conventions.to_gpd(T, PANDA), lambda T: conventions.from_gpd(T, PANDA)),
    (conventions.to_graspgen, conventions.from_graspgen),
    (lambda T: conventions.to_ee(T, PANDA), lambda T: conventions.from_ee(T, PANDA)),
    (lambda T: conventions.to_graspnet(Grasp(T, 0.04, 0.06, 0.7), PANDA, 0.03),
     lambda row: conventions.from_graspnet(row, PANDA).T_frame_grasp)])
def test_there_and_back_again(there, back):
    for pose in random_poses():
        np.testing.assert_allclose(back(there(pose)), pose, atol=1e-12)


def test_gpd_approaches_along_x_from_the_base_of_its_hand():
    hand = conventions.to_gpd(down(), PANDA)
    np.testing.assert_allclose(hand[:3, 0], [0, 0, -1])
    np.testing.assert_allclose(hand[:3, 1], [0, 1, 0])
    assert np.linalg.det(hand[:3, :3]) == pytest.approx(1)
    # The fingertips lie hand_depth along x from GPD's origin.
    tips = hand[:3, 3] + PANDA.finger_depth * hand[:3, 0]
    np.testing.assert_allclose(tips, [0.1, 0.2, 0.3 - PANDA.tip_length])


def test_graspgen_closes_along_x_from_a_base_behind():
    base = conventions.to_graspgen(down())
    np.testing.assert_allclose(base[:3, 2], [0, 0, -1])
    np.testing.assert_allclose(base[:3, 0], [0, 1, 0])
    assert np.linalg.det(base[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(base[:3, 3], [0.1, 0.2, 0.3 + 0.1053])


def test_a_row_of_graspnet():
    row = conventions.to_graspnet(Grasp(down(), 0.04, 0.06, 0.7), PANDA, 0.02)
    assert row.shape == (17,)
    np.testing.assert_allclose(row[:4], [0.7, 0.04, PANDA.finger_height, 0.02])
    rotation = row[4:13].reshape(3, 3)
    np.testing.assert_allclose(rotation[:, 0], [0, 0, -1])
    np.testing.assert_allclose(rotation[:, 1], [0, 1, 0])
    np.testing.assert_allclose(row[13:16] + 0.02 * rotation[:, 0],
                               [0.1, 0.2, 0.3 - PANDA.tip_length])
    with pytest.raises(ValueError, match='17 numbers'):
        conventions.from_graspnet(row[:16], PANDA)


def test_moveit_gets_the_link_that_it_moves():
    hand = conventions.to_ee(down(), PANDA)
    np.testing.assert_allclose(hand[:3, :3], down()[:3, :3])
    np.testing.assert_allclose(hand[:3, 3], [0.1, 0.2, 0.3 + 0.1034])

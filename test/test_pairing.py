import random

import pytest

pytest.importorskip('rclpy')  # the package that pairing lives in is only installed with ROS

from dkt_ros.nodes.pairing import FramePairer  # noqa: E402

MS = 1_000_000
SECOND = 1000 * MS


def play(pairer, events):
    """Feed (arrival ms, kind, stamp ms); tick each 10 ms in between; return the pairs."""
    pairs, clock = [], 0
    add = {'c': pairer.add_color, 'd': pairer.add_depth, 'i': pairer.add_info}
    for arrival, kind, stamp in sorted(events):
        while clock + 10 <= arrival:
            clock += 10
            pairs += pairer.ready(clock * MS)
        clock = max(clock, arrival)
        pairs += add[kind](stamp * MS, f'{kind}{stamp}', arrival * MS)
    for _ in range(200):
        clock += 10
        pairs += pairer.ready(clock * MS)
    return [(pair.color, pair.depth, pair.info, pair.info_is_cached) for pair in pairs]


def pairer(slop=50, wait=150, **kwargs):
    return FramePairer(slop * MS, wait * MS, **kwargs)


def exact(stamps):
    return [(f'c{t}', f'd{t}', f'i{t}', False) for t in stamps]


def test_three_topics_of_one_stamp():
    stamps = [1000 + 33 * n for n in range(20)]
    events = [(t, kind, t) for t in stamps for kind in 'cdi']
    assert play(pairer(), events) == exact(stamps)


def test_depth_arrives_40_ms_late():
    stamps = [1000 + 33 * n for n in range(20)]
    events = [(t + (40 if kind == 'd' else 0), kind, t) for t in stamps for kind in 'cdi']
    assert play(pairer(), events) == exact(stamps)


@pytest.mark.parametrize('seed', range(5))
def test_any_order_of_arrival_of_one_frame(seed):
    rng = random.Random(seed)
    stamps = [1000 + 33 * n for n in range(20)]
    events = [(t + rng.randrange(30), kind, t) for t in stamps for kind in 'cdi']
    assert play(pairer(), events) == exact(stamps)


def test_depth_stamped_40_ms_late_goes_to_its_image_at_6_hz():
    stamps = [1000 + 167 * n for n in range(6)]
    events = [(t, kind, t) for t in stamps for kind in 'ci'] + [
        (t + 40, 'd', t + 40) for t in stamps]
    pairs = play(pairer(), events)
    assert [(color, depth) for color, depth, *_ in pairs] == [
        (f'c{t}', f'd{t + 40}') for t in stamps]


def test_a_lost_depth_does_not_shift_the_others():
    stamps = [1000 + 33 * n for n in range(12)]
    events = [(t, kind, t) for t in stamps for kind in 'cdi' if (kind, t) != ('d', stamps[5])]
    pairs = play(pairer(), events)
    assert [depth for _, depth, *_ in pairs] == [
        None if t == stamps[5] else f'd{t}' for t in stamps]
    assert [color for color, *_ in pairs] == [f'c{t}' for t in stamps]


def test_depth_at_half_the_rate_is_not_used_twice():
    stamps = [1000 + 33 * n for n in range(12)]
    events = [(t, kind, t) for t in stamps for kind in 'ci'] + [(t, 'd', t) for t in stamps[::2]]
    depths = [depth for _, depth, *_ in play(pairer(), events)]
    assert depths[::2] == [f'd{t}' for t in stamps[::2]]
    assert set(depths[1::2]) == {None}


def test_missing_info_is_taken_from_the_cache():
    stamps = [1000 + 33 * n for n in range(4)]
    events = [(t, kind, t) for t in stamps for kind in 'cd'] + [(1000, 'i', 1000)]
    pairs = play(pairer(), events)
    assert pairs[0] == ('c1000', 'd1000', 'i1000', False)
    assert pairs[1:] == [(f'c{t}', f'd{t}', 'i1000', True) for t in stamps[1:]]


def test_without_any_info_nothing_comes_and_it_is_counted():
    under_test = pairer()
    assert play(under_test, [(t, kind, t) for t in (1000, 1100) for kind in 'cd']) == []
    assert under_test.counts['without_info'] == 2


def test_a_camera_without_depth_does_not_wait():
    under_test = pairer(wants_depth=False)
    under_test.add_info(0, 'i', 0)
    under_test.add_info(2 * MS, 'i2', 0)
    assert [pair.depth for pair in under_test.add_color(MS, 'c', MS)] == [None]


def test_stamps_that_never_pair_are_measured():
    under_test = pairer()
    events = [(t, kind, t) for t in (1000, 1033) for kind in 'ci']
    events += [(t, 'd', t + 700) for t in (1000, 1033)]
    assert [depth for _, depth, *_ in play(under_test, events)] == [None, None]
    assert under_test.nearest_miss_ns == 667 * MS


def test_images_that_wait_come_in_the_order_of_capture():
    events = [(0, 'c', 1033), (1, 'c', 1000), (2, 'i', 1000), (2, 'i', 1033), (3, 'd', 1000),
              (4, 'd', 1033)]
    assert play(pairer(), events) == exact([1000, 1033])


def test_a_late_image_is_dropped_but_a_new_recording_is_not():
    under_test = pairer()
    events = [(n, kind, stamp) for n, stamp in enumerate((5000, 4990, 100)) for kind in 'cdi']
    assert [color for color, *_ in play(under_test, events)] == ['c5000', 'c100']
    assert under_test.counts['late_colors'] == 1
    assert under_test.counts['restarts'] == 1


def test_the_queue_is_bounded():
    under_test = pairer(wait=5000)
    for n in range(100):
        under_test.add_color(n * MS, n, 0)
    assert under_test.counts['dropped_colors'] == 70

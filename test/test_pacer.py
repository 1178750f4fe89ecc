"""The pacer between a simulated camera and a simulated computer, on a virtual clock."""
from collections import deque
from dataclasses import dataclass, field

import pytest

from dkt_ros.pacer import Pacer

NEW_FRAMES = 8


@dataclass
class Run:
    """What a simulation leaves; times in seconds."""

    admitted: list = field(default_factory=list)
    ages: list = field(default_factory=list)
    overflows: int = 0
    finished: int = 0

    def gaps(self, since):
        late = [t for t in self.admitted if t >= since]
        return [b - a for a, b in zip(late, late[1:])]


def simulate(rate_hz, seconds_per_frame, duration_s=120.0, pacer=None):
    """All of a window's time falls on its last frame; the queue holds a window and one more."""
    pacer, run = pacer or Pacer(), Run()
    queue, window, free_at, needed = deque(), [], 0.0, NEW_FRAMES + 1
    for i in range(int(duration_s * rate_hz)):
        now = i / rate_hz
        while queue and free_at <= now:
            window.append(queue.popleft())
            if len(window) < needed:
                continue
            free_at = max(free_at, window[-1]) + seconds_per_frame * needed
            pacer.observe(seconds_per_frame)
            run.ages += [free_at - t for t in window]
            run.finished += needed
            window, needed = [], NEW_FRAMES
        if pacer.admit(round(now * 1e9)):
            if len(queue) > NEW_FRAMES:
                queue.popleft()
                run.overflows += 1
            queue.append(now)
            run.admitted.append(now)
    run.waiting = len(queue) + len(window)
    return run, pacer


RATES = pytest.mark.parametrize('rate_hz', [6, 15, 30])
SPEEDS = pytest.mark.parametrize('seconds_per_frame', [0.02, 0.1, 0.16, 0.17, 0.2, 0.31, 0.5])


@RATES
@SPEEDS
def test_pace(rate_hz, seconds_per_frame):
    load = rate_hz * seconds_per_frame
    pacer = Pacer(seconds_per_frame)
    run, _ = simulate(rate_hz, seconds_per_frame, pacer=pacer)
    num_frames = int(120 * rate_hz)
    assert run.overflows == 0
    assert run.finished + run.waiting == len(run.admitted)
    if load <= 1:
        assert pacer.drops == 0
        assert len(run.admitted) == num_frames
        return
    assert pacer.drops == num_frames - len(run.admitted) > 0
    gaps = run.gaps(1.0)
    assert max(gaps) <= 2 * min(gaps) * (1 + 1e-6)
    # thinned no more than to the next whole number of camera intervals
    assert len(run.admitted) >= num_frames / (load * 1.03 + 1) - 1
    window_s = NEW_FRAMES * seconds_per_frame
    assert max(run.ages) <= 2 * window_s + (NEW_FRAMES + 1) * max(gaps)


@RATES
@SPEEDS
def test_an_unknown_speed_is_learnt_from_the_first_windows(rate_hz, seconds_per_frame):
    run, pacer = simulate(rate_hz, seconds_per_frame)
    gaps = run.gaps(60.0)
    assert max(gaps) <= 2 * min(gaps) * (1 + 1e-6)
    assert pacer.seconds_per_frame == seconds_per_frame
    if rate_hz * seconds_per_frame <= 1:
        assert pacer.drops == run.overflows == 0


def test_above_mild_overload_every_gap_is_the_same():
    run, pacer = simulate(30, 0.1, pacer=Pacer(0.1))
    assert pacer.stride == 4
    assert {round(gap * 30) for gap in run.gaps(1.0)} == {4}


def test_in_mild_overload_few_frames_are_left_out():
    run, pacer = simulate(6, 0.17, pacer=Pacer(0.17))
    assert {round(gap * 6) for gap in run.gaps(1.0)} == {1, 2}
    assert pacer.drops < 0.1 * 720


def test_jitter_of_the_stamps_and_a_lost_image_do_not_break_the_stride():
    pacer = Pacer(0.1)
    jitter = [0.0, 0.002, -0.002, 0.001, -0.001]
    stamps = [i / 30 + jitter[i % 5] for i in range(300) if i % 17]
    admitted = [t for t in stamps if pacer.admit(round(t * 1e9))]
    gaps = [b - a for a, b in zip(admitted[5:], admitted[6:])]
    assert max(gaps) <= 2 * min(gaps)


def test_one_slow_window_changes_nothing():
    pacer = Pacer()
    for seconds in (2.0, 0.05, 0.05):
        pacer.observe(seconds)
    assert all(pacer.admit(i * 100_000_000) for i in range(50))


def test_a_jump_back_in_time_starts_anew():
    pacer = Pacer(0.3)
    for i in range(20):
        pacer.admit(10**10 + i * 100_000_000)
    assert pacer.admit(0)
    assert pacer.drops > 0


def test_a_pause_is_not_made_up_for():
    pacer = Pacer(0.3)
    before = [pacer.admit(i * 100_000_000) for i in range(40)]
    after = [pacer.admit((400 + i) * 100_000_000) for i in range(40)]
    assert after[0]
    assert sum(after) <= sum(before[-40:]) + 1

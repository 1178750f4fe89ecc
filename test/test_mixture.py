"""Clips drawn from several sources by weight."""
import dataset_trees as trees
import numpy as np
import pytest
from scene_factory import make_scene

from dkt_ros.data.mixture import SourceConfig, open_mixture
from dkt_ros.errors import UserError


def two_sources(tmp_path, weight=3.0):
    make_scene(tmp_path / 'scenes' / 'a', 9, seed=1)
    trees.transcg(tmp_path / 'tcg')
    return open_mixture([SourceConfig(str(tmp_path / 'scenes'), weight, stride=2),
                         SourceConfig(str(tmp_path / 'tcg'), 1.0)])


def test_stills_come_from_all_by_weight_and_clips_from_video_only(tmp_path):
    mixture, rng = two_sources(tmp_path), np.random.default_rng(0)
    names = [mixture.draw(1, rng).sequence.preset for _ in range(400)]
    assert names.count('test') / 400 == pytest.approx(0.75, abs=0.06)
    assert {mixture.draw(5, rng).sequence.preset for _ in range(20)} == {'test'}
    starts = {mixture.draw(5, rng).start for _ in range(60)}
    assert starts == {0, 2, 4}
    clip = mixture.draw(5, rng)
    assert len(clip.frames()) == 5 and clip.frames()[0].index == clip.start
    with pytest.raises(UserError, match='13 consecutive frames'):
        mixture.draw(13, rng)


def test_a_source_of_weight_zero_is_never_drawn(tmp_path):
    mixture, rng = two_sources(tmp_path, weight=0.0), np.random.default_rng(0)
    assert {mixture.draw(1, rng).sequence.preset for _ in range(30)} == {'transcg'}


def test_a_smaller_share_is_spread_evenly_and_lies_within_a_larger_one(tmp_path):
    for index in range(9):
        make_scene(tmp_path / 'scenes' / f's{index}', 2, seed=index)
    names = [[scene.path.name for scene in open_mixture([
        SourceConfig(str(tmp_path / 'scenes'), share=share)]).sources[0].sequences]
        for share in (0.25, 0.5, 1.0, 0.01)]
    assert names[:2] == [['s3', 's7'], ['s1', 's3', 's5', 's7']]
    assert len(names[2]) == 9 and names[3] == ['s0']


def test_keys_name_clips_for_good(tmp_path):
    mixture = two_sources(tmp_path)
    first = [mixture.draw(1, np.random.default_rng(i)).key for i in range(8)]
    assert first == [mixture.draw(1, np.random.default_rng(i)).key for i in range(8)]
    assert len(set(first)) > 2


def test_what_is_for_evaluation_is_refused(tmp_path):
    make_scene(tmp_path / 'eval' / 'a', 2, seed=1_000_000)
    with pytest.raises(UserError, match='evaluation only'):
        open_mixture([SourceConfig(str(tmp_path / 'eval'))])
    trees.dreds(tmp_path / 'std', real=True)
    with pytest.raises(UserError, match='test split'):
        open_mixture([SourceConfig(str(tmp_path / 'std'))])
    with pytest.raises(UserError, match='no training data'):
        open_mixture([])
    trees.clearpose(tmp_path / 'mm', divisor=1.0)
    with pytest.raises(UserError, match='millimetres'):
        open_mixture([SourceConfig(str(tmp_path / 'mm'))])

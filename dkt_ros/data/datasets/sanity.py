"""
What goes wrong when a data set is read for the first time, each found with a sentence.

Wrong units, an inverted mask or none, normals in other axes, a sensor with another divisor.
Intrinsics are checked where they are read (`camera_from_matrix`).
"""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dkt_ros.data.datasets.sequence import FrameSequence
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.errors import UserError
from dkt_ros.geometry import depth_to_normals
from dkt_ros.material import Material

NEAR_M, FAR_M = 0.03, 30.0
SAME_SCALE = (0.8, 1.25)
MAX_MASK = 0.98
MAX_ANGLE_DEG = 50.0
SENSOR_BLIND = (Material.TRANSPARENT, Material.TRANSLUCENT, Material.REFLECTIVE)
MIN_PIXELS = 20


def check_sequence(sequence: FrameSequence, num_samples: int = 5) -> list[str]:
    """
    Read a few frames, evenly spread, and say what cannot be right.

    Returns
    -------
    list of str
        A sentence for each finding, none for a sequence that can be used.

    """
    places = np.unique(np.linspace(0, len(sequence) - 1, num_samples).astype(int))
    items = []
    for place in places:
        try:
            items.append(sequence[int(place)])
        except UserError as error:
            sequence.report(str(error))
    if not items:
        broken = sequence.problems[-1] if sequence.problems else 'no reason known'
        return [f'{sequence.name}: none of {len(places)} sampled frames can be read ({broken})']
    found = [_units(items), _sensor_scale(items), _normals(items, sequence)]
    if sequence.has_mask:
        found.append(_mask(items))
    return [f'{sequence.name}: {sentence}' for sentence in found if sentence]


def ensure_sane(sequences: Iterable[FrameSequence]) -> None:
    """Raise UserError with the first finding of `check_sequence`."""
    for sequence in sequences:
        for sentence in check_sequence(sequence):
            raise UserError(sentence)


def _units(items: list[SceneFrame]) -> str:
    depths = [item.depth[np.isfinite(item.depth)] for item in items if item.depth is not None]
    values = np.concatenate(depths) if depths else np.empty(0)
    if not values.size:
        return 'no sampled frame has true depth at any pixel' if depths else ''
    median = float(np.median(values))
    if median > FAR_M:
        return (f'true depth has a median of {median:.0f} m; these are millimetres read as '
                'metres: divide by 1000')
    if median < NEAR_M:
        return (f'true depth has a median of {median:.2g} m; metres were taken for millimetres: '
                'do not divide')
    return ''


def _sensor_scale(items: list[SceneFrame]) -> str:
    ratios = []
    for item in items:
        sensor, truth = item.frame.sensor_depth, item.depth
        if sensor is None or truth is None:
            continue
        chosen = np.isfinite(sensor) & np.isfinite(truth)
        if item.material is not None:
            chosen &= ~np.isin(item.material, [int(kind) for kind in SENSOR_BLIND])
        ratios.append(sensor[chosen] / truth[chosen])
    values = np.concatenate(ratios) if ratios else np.empty(0)
    if values.size < MIN_PIXELS:
        return ''
    ratio = float(np.median(values))
    if SAME_SCALE[0] < ratio < SAME_SCALE[1]:
        return ''
    return (f'the sensor measures {ratio:.3g} times the true depth away from what is '
            'transparent; one of the two has the wrong unit or divisor (1000 for millimetres, '
            '4000 for an L515)')


def _mask(items: list[SceneFrame]) -> str:
    masks = [item.material for item in items if item.material is not None]
    if not masks:
        return ('no sampled frame has a mask, so that nothing is known to be transparent; copy '
                'the masks from the data set')
    shares = [float((mask != int(Material.BACKGROUND)).mean()) for mask in masks]
    if max(shares) == 0:
        return 'the mask marks nothing in any sampled frame; it is empty or its values are others'
    if min(shares) > MAX_MASK:
        return (f'the mask marks {min(shares):.0%} of the image or more; it is inverted, or its '
                'background has a value of its own (255 in STD)')
    return ''


def _normals(items: list[SceneFrame], sequence: FrameSequence) -> str:
    angles = []
    for item in items:
        if item.normals is None or item.depth is None:
            continue
        own = np.nan_to_num(depth_to_normals(item.depth, sequence.camera))
        both = (np.linalg.norm(own, axis=-1) > 0.5) & (np.linalg.norm(item.normals, axis=-1) > 0.5)
        cosine = (own[both] * item.normals[both]).sum(axis=-1)
        angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    values = np.concatenate(angles) if angles else np.empty(0)
    if values.size < MIN_PIXELS or np.median(values) < MAX_ANGLE_DEG:
        return ''
    return (f'normals lie {np.median(values):.0f} degrees off those of the true depth (median); '
            'their axes are others than x right, y down, towards the camera')

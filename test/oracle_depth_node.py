"""The depth node with the truth of the bundled clip in the place of the model, as a process."""
import zlib

import numpy as np

from dkt_ros.data.clips import open_clip
from dkt_ros.frame import DepthEstimate
from dkt_ros.nodes.depth_node import DepthNode
from dkt_ros.nodes.lifecycle import run
from dkt_ros.resources import share_path


def fingerprint(rgb):
    return zlib.crc32(np.ascontiguousarray(rgb[::16, ::16]).tobytes())


class Oracle:
    """Knows each frame of the clip by its colours."""

    wanted = frozenset()

    def __init__(self):
        self.truth = {}

    def load(self, config):
        for item in open_clip(share_path('clips', 'demo')).items():
            if item.index > 60:
                break
            self.truth[fingerprint(item.frame.rgb)] = item.depth

    def perception(self, config, normals):
        return self

    def release(self):
        self.truth = {}

    def advance(self, frame):
        depth = self.truth.get(fingerprint(frame.rgb))
        if depth is None:
            return []
        size = depth.shape
        normals = np.zeros((*size, 3), np.float32)
        normals[..., 2] = -1.0
        return [DepthEstimate(frame, (1 / depth).astype(np.float32), depth=depth,
                              depth_fused=depth, normals=normals, mask=np.zeros(size, bool),
                              confidence=np.full(size, 0.9, np.float32))]

    def drain(self):
        return []

    def denoise(self, pending):
        return pending

    def decode(self, pending):
        return pending

    def complete(self, estimates):
        return estimates

    def reset(self, reason):
        pass


if __name__ == '__main__':
    run(lambda: DepthNode(Oracle()))

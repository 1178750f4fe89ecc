"""Run under bpy by test_render_blender.py: what falls comes to rest, what is wrong is found."""
import json
import sys

sys.path.insert(0, sys.argv[1])
import numpy as np  # noqa: E402
import settle  # noqa: E402
import shapes  # noqa: E402
from boxes import Box, box_surface  # noqa: E402
from places import Place, upright  # noqa: E402


def cube(side, pose):
    vertices, faces = box_surface(Box((side,) * 3, np.eye(4)))
    return settle.Body(vertices, faces, pose)


def lowest(body):
    return float((body.vertices @ body.pose[:3, :3].T + body.pose[:3, 3])[:, 2].min())


table = [Box((2.0, 2.0, 0.04), upright(0, 0, -0.02))]
place = Place([], (1.0, 1.0), reach_m=1.0)
glass = shapes.tumbler(np.random.default_rng(0))
tilt = upright(0, 0, 0.3)
tilt[:3, :3] = [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]
falling = [cube(0.05, tilt), cube(0.05, upright(0.2, 0, 0.03)),
           settle.Body(glass.vertices, glass.faces, upright(-0.2, 0, 0.002)),
           cube(0.05, upright(0.2, 0.01, 0.09))]
rested = settle.settle(falling, table, 5.0)
result = {'rested': rested, 'lowest': [lowest(body) for body in falling],
          'upright': float(falling[2].pose[2, 2]),
          'tilt': float(abs(falling[0].pose[:3, 2]).max()),
          'faults': settle.at_fault(falling, table, place.keeps)}
wrong = [cube(0.05, upright(0, 0, 0.025)), cube(0.05, upright(0.03, 0.004, 0.025, 0.3)),
         cube(0.05, upright(0.3, 0, 0.1)), cube(0.05, upright(0, 3.0, 0.025)),
         cube(0.01, upright(0, 0, 0.02)), cube(0.05, upright(-0.2, 0, 0.022)),
         cube(0.05, upright(-0.4, 0, 0.025))]
result['wrong'] = settle.at_fault(wrong, table, place.keeps)
rolling = [cube(0.05, upright(0, 0, 30.0))]
result['late'] = settle.settle(rolling, table, 0.5)
sys.stdout.write(json.dumps(result) + '\n')

"""Stands in for Blender: sleeps, then writes the raw passes of a flat scene of its seed."""
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import OpenEXR


def write_frame(path, spec, index):
    rng = np.random.default_rng((spec['seed'], index))
    shape = (spec['height'], spec['width'])
    instance = np.zeros(shape, np.float32)
    instance[10:20, 10:24] = 1.0
    channels = {f'V.Combined.{c}': rng.random(shape, np.float32) for c in 'RGBA'}
    channels |= {f'V.Normal.{c}': np.full(shape, float(c == 'Z'), np.float32) for c in 'XYZ'}
    channels |= {'V.Depth.Z': 0.7 - 0.1 * instance, 'V.IndexOB.X': instance,
                 'V.IndexMA.X': instance}
    header = {'compression': OpenEXR.NO_COMPRESSION, 'type': OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(path))


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    out = Path(job['out'])
    for spec in job['scenes']:
        time.sleep(float(os.environ.get('STUB_SECONDS', '0')))
        if os.getppid() != job['parent']:
            raise SystemExit('orphan')
        # Some first attempts are of no use: their successors must be the same after a kill.
        failed = spec['seed'] < 1 << 32 and spec['seed'] % 4 == 1
        record = {'name': spec['name'], 'seed': spec['seed'], 'failed': 'drawn to fail'}
        if not failed:
            frames = out / f'{spec["name"]}.frames'
            frames.mkdir()
            for index in range(spec['num_frames']):
                write_frame(frames / f'{index:04d}.exr', spec, index)
            np.savez(frames / 'mesh_0001.npz', vertices=np.eye(3), triangles=[[0, 1, 2]])
            pose = np.diag([1.0, -1.0, -1.0, 1.0])
            item = {'instance': 1, 'family': 'box', 'material': 'glass', 'material_class': 1,
                    'lying': False, 'radius_m': 0.05, 'height_m': 0.1,
                    'T_world_object': np.eye(4).tolist()}
            record = {'name': spec['name'], 'seed': spec['seed'], 'objects': [item],
                      'width': spec['width'], 'height': spec['height'], 'fx': 60.0,
                      'T_world_camera': [pose.tolist()] * spec['num_frames'], 'blender': 'stub',
                      'device': 'CPU',
                      'seconds': {'build': 1.0, 'frames': 0.5, 'infrared': 0.0},
                      'processor_seconds': {'build': 0.8, 'frames': 0.4, 'infrared': 0.0}}
        (out / f'{spec["name"]}.json').write_text(json.dumps(record))
        sys.stdout.write(json.dumps({'done': spec['name']}) + '\n')
        sys.stdout.flush()


if __name__ == '__main__':
    main()

"""Small trees in exactly the layouts of the public data sets, filled from the analytic scene."""
from __future__ import annotations

import json

import numpy as np
from scene_factory import CAMERA, scene_frame
from scipy.io import savemat

from dkt_ros.data.exr import write_exr
from dkt_ros.data.images import write_image
from dkt_ros.material import Material

DREDS_NUMBERS = {Material.TRANSPARENT: 2, Material.REFLECTIVE: 3, Material.DIFFUSE: 1}
K = np.array([[CAMERA.fx, 0, CAMERA.cx], [0, CAMERA.fy, CAMERA.cy], [0, 0, 1]])


def png_depth(path, depth, divisor=1000.0):
    write_image(path, np.rint(np.nan_to_num(depth) * divisor).astype(np.uint16))


def rgb_exr(path, values, invalid=0.0):
    values = np.nan_to_num(values, nan=invalid).astype(np.float32)
    write_exr(path, dict.fromkeys('RGB', values))


def clearpose(root, num_frames=3, divisor=1000.0, matrix=K, per_frame=False):
    folder = root / 'set1' / 'scene1'
    folder.mkdir(parents=True)
    entries = {}
    for index in range(num_frames):
        item, name = scene_frame(index), f'{index:06d}'
        write_image(folder / f'{name}-color.png', item.frame.rgb)
        png_depth(folder / f'{name}-depth.png', item.frame.sensor_depth)
        png_depth(folder / f'{name}-depth_true.png', item.depth)
        label = np.select([item.instance == 1, item.instance > 1], [7, 70], 0)
        write_image(folder / f'{name}-label.png', label.astype(np.uint8))
        write_image(folder / f'{name}-normal_true.png', item.frame.rgb)
        entries[name] = {'cls_indexes': np.array([7]), 'camera_intrinsics': matrix,
                         'factor_depth': np.array([[divisor]])}
        if per_frame:
            savemat(folder / f'{name}-meta.mat', entries[name])
    if not per_frame:
        savemat(folder / 'metadata.mat', entries)
    return root


def _dreds_files(folder, index, real, long_lines):
    item, name = scene_frame(index), f'{index:04d}'
    double = np.repeat(np.repeat(item.frame.rgb, 2, 0), 2, 1)
    write_image(folder / f'{name}_color.png', double)
    write_image(folder / f'{name}_coord.png', double)
    ids = np.where(item.instance > 0, item.instance, 255)
    if real:
        rgb_exr(folder / f'{name}_gt_depth.exr', item.depth)
        rgb_exr(folder / f'{name}_depth_415.exr', item.frame.sensor_depth)
        write_image(folder / f'{name}_mask.png', ids.astype(np.uint8))
    else:
        rgb_exr(folder / f'{name}_depth_120.exr', item.depth)
        rgb_exr(folder / f'{name}_simDepthImage.exr', item.frame.sensor_depth, invalid=-0.001)
        rgb_exr(folder / f'{name}_mask.exr', ids / 255)
        rgb_exr(folder / f'{name}_normal.exr', item.depth)
    lines = []
    for instance, kind in ((1, Material.TRANSPARENT), (2, Material.REFLECTIVE),
                           (3, Material.DIFFUSE)):
        number = DREDS_NUMBERS[kind]
        lines.append(f'{instance} 4 02876657 bottle_12 0.2 {number} 1 0 0 0 0.1 0.2 0.7'
                     if long_lines else f'{instance} 4 {number}')
    (folder / f'{name}_meta.txt').write_text('\n'.join(lines) + '\n')


def dreds(root, num_frames=2, real=False, long_lines=True):
    part = 'STD-CatKnown/test_0' if real else 'DREDS-CatKnown/train/00012'
    folder = root / part
    folder.mkdir(parents=True)
    for index in range(num_frames):
        _dreds_files(folder, index, real, long_lines)
    return root


def hiss(root, num_frames=3):
    for scene in ('102344049/kitchen', '102344049/glass_table'):
        folder = root / 'HISS' / 'train' / scene
        folder.mkdir(parents=True)
        for index in range(num_frames):
            item, name = scene_frame(index), f'{index:04d}'
            write_image(folder / f'{name}_color.png', item.frame.rgb)
            for side in 'lr':
                write_image(folder / f'{name}_ir_{side}.png', item.frame.rgb[..., 0])
            rgb_exr(folder / f'{name}_depth.exr', item.depth)
            rgb_exr(folder / f'{name}_simDepthImage.exr', item.frame.sensor_depth)
    (root / 'HISS' / 'train' / 'bad_his.txt').write_text(
        'datasets/HISS/train/102344049/kitchen/0001_depth.exr 0.31\n')
    return root


def transcg(root, num_views=2):
    (root / 'camera_intrinsics').mkdir(parents=True)
    for digit, device in ((1, 'D435'), (2, 'L515')):
        np.save(root / 'camera_intrinsics' / f'{digit}-camIntrinsics-{device}.npy', K)
    (root / 'metadata.json').write_text(json.dumps({
        'total_scenes': 1, 'perspective_num': num_views, 'train_samples': 2 * num_views,
        'test_samples': 0, 'train': [1], 'test': []}))
    views = list(range(num_views))
    (root / 'scene1').mkdir()
    (root / 'scene1' / 'metadata.json').write_text(json.dumps({
        'type': 'cluttered', 'split': 'train', 'D435_valid_perspective_list': views,
        'L515_valid_perspective_list': views}))
    for view in views:
        folder, item = root / 'scene1' / str(view), scene_frame(view)
        folder.mkdir()
        for digit, divisor in ((1, 1000.0), (2, 4000.0)):
            write_image(folder / f'rgb{digit}.png', item.frame.rgb)
            png_depth(folder / f'depth{digit}.png', item.frame.sensor_depth, divisor)
            png_depth(folder / f'depth{digit}-gt.png', item.depth, divisor)
            mask = np.where(item.material == Material.TRANSPARENT, 255, 0)
            write_image(folder / f'depth{digit}-gt-mask.png', mask.astype(np.uint8))
    return root


def cleargrasp_synthetic(root, num_frames=2):
    folder = root / 'cleargrasp-dataset-train' / 'cup-with-waves-train'
    for name in ('rgb-imgs', 'depth-imgs-rectified', 'segmentation-masks', 'camera-normals'):
        (folder / name).mkdir(parents=True)
    for index in range(num_frames):
        item, name = scene_frame(index), f'{index:09d}'
        write_image(folder / 'rgb-imgs' / f'{name}-rgb.jpg', item.frame.rgb, 95)
        rgb_exr(folder / 'depth-imgs-rectified' / f'{name}-depth-rectified.exr', item.depth)
        mask = np.where(item.material == Material.TRANSPARENT, 255, 0).astype(np.uint8)
        write_image(folder / 'segmentation-masks' / f'{name}-segmentation-mask.png', mask)
        x, y, z = np.moveaxis(item.normals, -1, 0)
        write_exr(folder / 'camera-normals' / f'{name}-cameraNormals.exr',
                  {'R': x.astype(np.float16), 'G': (-y).astype(np.float16),
                   'B': (-z).astype(np.float16)})
    return root


def declared(root, num_frames=6, changes=''):
    for sequence in ('a', 'b'):
        for name in ('color', 'z', 'seg'):
            (root / sequence / name).mkdir(parents=True)
        for index in range(num_frames):
            item, name = scene_frame(index), f'f{index:03d}'
            write_image(root / sequence / 'color' / f'{name}.png', item.frame.rgb)
            png_depth(root / sequence / 'z' / f'{name}.png', item.depth, 5000.0)
            write_image(root / sequence / 'seg' / f'{name}.png', item.material)
    (root / 'dataset.yaml').write_text(f"""
name: my-set
source: a shelf
licence: none
camera: {{width: 64, height: 48, fx: 60.0, fy: 60.0, cx: 31.5, cy: 23.5}}
layers:
  rgb: {{files: '{{sequence}}/color/{{frame}}.png'}}
  depth: {{files: '{{sequence}}/z/{{frame}}.png', divisor: 5000.0}}
  mask: {{files: '{{sequence}}/seg/{{frame}}.png', transparent: [1]}}
{changes}""")
    return root
